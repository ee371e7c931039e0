"""One file per method. A method names its terms; it never sees the data set, the protocol, the device or the loop."""

from __future__ import annotations

from benchmark.methods.method import Batch, LabelSpaces, Method, Needs, Shapes, Situation, Slots, Stage
from benchmark.registry import Registry

METHODS: Registry[type[Method]] = Registry("method", room="benchmark.methods", group="benchmark.methods", base=Method)

__all__ = ["METHODS", "Batch", "LabelSpaces", "Method", "Needs", "Shapes", "Situation", "Slots", "Stage"]
