"""One file per method. A method names its terms; it never sees the data set, the protocol, the device or the loop."""

from __future__ import annotations

from benchmark.methods.base import (
    Batch,
    IncrementalDefaults,
    LabelSpaces,
    Method,
    Needs,
    Shapes,
    Stage,
    TransferContext,
)
from benchmark.registry import Registry

METHODS: Registry[type[Method]] = Registry(
    "method", package="benchmark.methods", group="benchmark.methods", base=Method
)

__all__ = [
    "METHODS",
    "Batch",
    "IncrementalDefaults",
    "LabelSpaces",
    "Method",
    "Needs",
    "Shapes",
    "Stage",
    "TransferContext",
]
