"""One file per method. A method names the terms of its loss; it never sees the data set, the protocol or the device."""

from __future__ import annotations

from benchmark.methods.base import Batch, Method, Shapes, Stage
from benchmark.methods.requirements import IncrementalDefaults, LabelSpaces, Needs, TransferContext
from benchmark.registry import Registry

METHODS: Registry[type[Method]] = Registry(
    "method",
    package="benchmark.methods",
    modules=("benchmark.bridges.avalanche.strategies", "benchmark.bridges.learn2learn.methods"),
    group="benchmark.methods",
    base=Method,
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
