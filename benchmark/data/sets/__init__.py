"""One file per data set: a function of the data root that returns an ``ImageSet``, or a ``Published`` that is one.

These files import numpy inside their functions only, so that listing the data sets stays instant.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.registry import Registry

if TYPE_CHECKING:
    from benchmark.data import ImageSet

DATASETS: Registry[Callable[[Path], ImageSet]] = Registry(
    "data set", room="benchmark.data.sets", group="benchmark.datasets"
)
