"""One file per data set: a function of the data root that returns an ``ImageSet``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmark.data.imageset import ImageSet
from benchmark.registry import Registry

Loader = Callable[[Path], ImageSet]

DATASETS: Registry[Loader] = Registry("data set", room="benchmark.data.sets", group="benchmark.datasets")
