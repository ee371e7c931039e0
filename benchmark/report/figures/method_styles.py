"""Colour and marker of each method in figures. Each family of methods has a palette."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmark.methods import METHODS

Marker = str | tuple[int, int, int]


@dataclass(frozen=True)
class MethodStyle:
    """Colour and marker of a method."""

    color: str
    marker: Marker

    def dot(self, hollow: bool = False) -> dict[str, Any]:
        """Return options of a plot for the marker, sized so that all markers look equally large.

        Args:
            hollow: Draw the outline only.
        """
        size = _SIZES.get(self.marker, 4.0 if isinstance(self.marker, str) else 5.6)
        return {
            "color": self.color, "marker": self.marker, "markersize": size,
            "markerfacecolor": "white" if hollow else self.color, "markeredgewidth": 0.6,
        }  # fmt: skip


_SIZES: Mapping[Marker, float] = {"s": 3.6, "D": 3.3, "d": 4.2, "P": 4.6, "X": 4.6, "*": 6.0, "p": 4.6}

_PALETTES: Mapping[str, tuple[MethodStyle, ...]] = {
    "labels": (MethodStyle("#000000", "o"),),
    # blues
    "logits": (MethodStyle("#1B3A73", "<"), MethodStyle("#4AA3DF", "D"), MethodStyle("#0072B2", "s")),
    # greens
    "feature maps": (
        MethodStyle("#5BBF8A", "o"),
        MethodStyle("#009E73", "v"),
        MethodStyle("#3C8D5A", "<"),
        MethodStyle("#00543C", "D"),
        MethodStyle("#7FB800", (4, 1, 0)),
    ),
    # purples
    "embeddings": (MethodStyle("#D58FC0", ">"), MethodStyle("#6A1B6A", "p"), MethodStyle("#AA4499", "d")),
    # oranges
    "instance comparisons": (MethodStyle("#D55E00", "*"), MethodStyle("#F08A4B", "P")),
    # greys
    "weights": (
        MethodStyle("#555555", (4, 1, 0)),
        MethodStyle("#8A8A8A", "^"),
        MethodStyle("#333333", "P"),
        MethodStyle("#777777", (6, 1, 0)),
        MethodStyle("#9A9A9A", "X"),
    ),
    # yellows and browns
    "incremental": (
        MethodStyle("#A65E2E", "s"),
        MethodStyle("#E0B000", (6, 1, 0)),
        MethodStyle("#5C3A00", "X"),
        MethodStyle("#7A2E1D", ">"),
        MethodStyle("#C79A00", "^"),
        MethodStyle("#8C6D00", "d"),
        MethodStyle("#C98B5E", "p"),
    ),
    # sea greens
    "avalanche": (
        MethodStyle("#1271A1", (4, 0, 22)),
        MethodStyle("#1D3029", (3, 0, 45)),
        MethodStyle("#1271A1", (3, 0, 45)),
        MethodStyle("#1271A1", (5, 0, 36)),
        MethodStyle("#39AC86", (5, 0, 36)),
        MethodStyle("#1D3029", (5, 0, 36)),
        MethodStyle("#39AC86", (4, 0, 22)),
    ),
    # reds
    "episodic": (MethodStyle("#701020", (7, 1, 0)), MethodStyle("#C8102E", "h"), MethodStyle("#F0697A", (7, 0, 0))),
}
"""Styles by family, assigned to its methods in alphabetical order."""

_SPARE_COLORS = ("#0072B2", "#009E73", "#AA4499", "#D55E00", "#8C6D00", "#555555")
_SPARE_MARKERS: tuple[Marker, ...] = ("8", "H", (5, 1, 36), (4, 1, 45), (3, 1, 60), (3, 1, 180), (8, 1, 0))
"""Colours and markers of methods outside all palettes. No palette contains these markers."""


def method_styles() -> Mapping[str, MethodStyle]:
    """Return the styles of all built-in methods by name."""
    return _styles_of(tuple(METHODS.built_in_names()))


def look(method: str) -> MethodStyle:
    """Return the style of a method.

    A built-in method has a style of its family's palette. The style of any other method, such as a plug-in, depends on
    its name alone, so it is the same on every machine.
    """
    return method_styles().get(method) or _style_of_name(method)


@functools.lru_cache(maxsize=4)
def _styles_of(methods: tuple[str, ...]) -> Mapping[str, MethodStyle]:
    styles: dict[str, MethodStyle] = {}
    for family, palette in _PALETTES.items():
        members = sorted(name for name in methods if METHODS.get(name).entry.family == family)
        styles |= dict(zip(members, palette, strict=False))
        for i, name in enumerate(members[len(palette) :]):
            # a family larger than its palette repeats the colours with spare markers
            styles[name] = MethodStyle(palette[i % len(palette)].color, _SPARE_MARKERS[i % len(_SPARE_MARKERS)])
    return styles


def _style_of_name(method: str) -> MethodStyle:
    number = int.from_bytes(hashlib.sha256(method.encode("utf-8", "surrogatepass")).digest()[:8])
    number, color = divmod(number, len(_SPARE_COLORS))
    return MethodStyle(_SPARE_COLORS[color], _SPARE_MARKERS[number % len(_SPARE_MARKERS)])
