"""One file for each data set: a function from the data root to an ``ImageSet``, or a ``PublishedDataset``.

The files import numpy only inside their functions, so that listing the data sets is instant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmark.registry import Registry

DATASETS: Registry[Callable[..., Any]] = Registry("data set", package="benchmark.data.sets", group="benchmark.datasets")
"""Loaders, called with the data root. The entry of a name with fields makes a loader from its fields, by keyword."""
