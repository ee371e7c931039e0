"""Networks by name. One file per family; each yields named taps: stage maps and a pooled embedding.

A row here is a name and where to find its constructor, so that names are known without importing torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from benchmark.registry import Registry

if TYPE_CHECKING:
    from benchmark.backbones.network import Backbone


class Constructor(Protocol):
    """Builds a backbone for images of ``channels`` x ``size`` x ``size``; the fields of the name follow by keyword."""

    def __call__(self, *, channels: int, size: int, **fields: int) -> Backbone: ...


BACKBONES: Registry[Constructor] = Registry("backbone", group="benchmark.backbones")

BACKBONES.refer(
    "conv4-{width}",
    "benchmark.backbones.conv4:Conv4",
    help="Four 3 x 3 convolutions of that width, each with batch norm, max-pooling and ReLU (few-shot standard).",
    examples=("conv4-16", "conv4-32", "conv4-64"),
)
