from .image_set import ImageSet as ImageSet
from .sets import DATASETS as DATASETS
from .task import Task as Task
