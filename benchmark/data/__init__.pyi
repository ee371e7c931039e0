from .imageset import ImageSet as ImageSet
from .sets import DATASETS as DATASETS
from .task import Task as Task
