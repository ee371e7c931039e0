"""A network. Its module imports no torch; the layers are in a module of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmark.backbones.network import Backbone


def net(*, channels: int, size: int, width: int) -> Backbone:
    """Two strided convolutions of that width."""
    from acme_plugin.layers import Net

    return Net(channels, width)
