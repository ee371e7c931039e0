"""Images in memory, their classes, splits and groups; episodes, batches and augmentation."""

from __future__ import annotations

from benchmark.data.imageset import ImageSet
from benchmark.data.sets import DATASETS
from benchmark.data.task import Task

__all__ = ["DATASETS", "ImageSet", "Task"]
