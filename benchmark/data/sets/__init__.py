"""One file per data set: a function of the data root that returns an ``ImageSet``, or a ``Published`` that is one.

These files import numpy inside their functions only, so that listing the data sets stays instant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmark.registry import Registry

DATASETS: Registry[Callable[..., Any]] = Registry("data set", package="benchmark.data.sets", group="benchmark.datasets")
"""Loaders, called with the data root; under a name with fields, what makes one from the fields by keyword."""
