from .tasksets import as_taskset as as_taskset
from .tasksets import image_set as image_set
from .tasksets import taskset as taskset
