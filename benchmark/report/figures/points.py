"""Methods as named points in a plane, with intervals in both directions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Transform

from benchmark.report.figures import style
from benchmark.report.figures.labels import Box, place
from benchmark.statistics import Interval

_CLEAR, _REACH = 3.5, 26.0
"""Minimum and maximum distance of a name from its point, in points. Beyond the maximum a key is easier to read."""


@dataclass(frozen=True)
class Dot:
    """One method in the plane."""

    label: str
    method: str
    x: Interval
    """Horizontal interval in units of the axis."""
    y: Interval
    """Vertical interval in units of the axis."""
    note: str
    """Number behind the name in a key."""
    hollow: bool = False
    """Whether the marker is an outline."""


def plane(count: int, title: str, head: float = 6.0) -> tuple[Figure, Axes]:
    """Make a figure of two columns' width with one frame, high enough for a key.

    Args:
        count: Number of methods in the key.
        title: Title of the figure.
        head: Space above the frame in mm.
    """
    height = max(72.0, 3.35 * (count + 1))
    figure = style.canvas(style.DOUBLE, height + 16 + head, title)
    return figure, style.axes(figure, 13, 16, style.DOUBLE - 19, height)


def draw_dots(frame: Axes, dots: Sequence[Dot]) -> None:
    """Draw markers, and bars for methods with more than one seed."""
    for dot in dots:
        look = style.look(dot.method)
        frame.plot([dot.x.mean], [dot.y.mean], **look.dot(dot.hollow), linestyle="none", zorder=4)
        x, y = dot.x, dot.y
        options: dict[str, Any] = {"color": look.color, "linewidth": 0.5, "alpha": 0.6, "zorder": 3}
        if x.half_width is not None:
            frame.plot([x.mean - x.half_width, x.mean + x.half_width], [y.mean, y.mean], **options)
        if y.half_width is not None:
            frame.plot([x.mean, x.mean], [y.mean - y.half_width, y.mean + y.half_width], **options)


def name_dots(figure: Figure, frame: Axes, dots: Sequence[Dot], heading: str) -> None:
    """Draw each dot's name beside it if all names fit, else a key to the right of the frame.

    The frame becomes narrower to make room for a key. Call this after the limits of the axes are final.

    Args:
        figure: The figure of ``frame``.
        frame: Axes with the dots.
        dots: The dots, in the order of the key.
        heading: Heading of the notes in the key.
    """
    to_points = frame.transData + style.points(figure).inverted()
    inside = frame.get_window_extent().transformed(style.points(figure).inverted())
    anchors = [(float(x), float(y)) for x, y in to_points.transform([(dot.x.mean, dot.y.mean) for dot in dots])]
    sizes = [(style.text_width(dot.label, 7) + 1, 7.5) for dot in dots]
    bars = [bar for dot, anchor in zip(dots, anchors, strict=True) for bar in _bars(dot, anchor, to_points)]
    boxes = place(
        anchors, sizes, Box(inside.x0 + 1, inside.y0 + 1, inside.x1, inside.y1),
        clear=_CLEAR, reach=_REACH, avoid=bars,
    )  # fmt: skip
    if boxes is None:
        _make_key(figure, frame, dots, heading)
        return
    for dot, anchor, box in zip(dots, anchors, boxes, strict=True):
        color, tip = style.look(dot.method).color, box.nearest(anchor)
        distance = math.dist(anchor, tip)
        if distance > 2 * _CLEAR:
            start = [a + _CLEAR / distance * (b - a) for a, b in zip(anchor, tip, strict=True)]
            ends = zip(start, tip, strict=True)
            figure.add_artist(Line2D(*ends, transform=style.points(figure), color=color, linewidth=0.4, alpha=0.6))
        figure.text(
            (box.left + box.right) / 2, (box.bottom + box.top) / 2, dot.label, transform=style.points(figure),
            size=7, color=style.legible(color), ha="center", va="center_baseline",
        )  # fmt: skip


def _bars(dot: Dot, anchor: Sequence[float], to_points: Transform) -> list[Box]:
    """Return the rectangles of a dot's bars in points."""
    x, y = anchor
    right, up = dot.x.half_width or 0, dot.y.half_width or 0
    (x0, y0), (x1, y1) = to_points.transform([
        (max(dot.x.mean - right, 1e-9), dot.y.mean - up), (dot.x.mean + right, dot.y.mean + up),
    ])  # fmt: skip
    return [Box(float(x0), y - 0.3, float(x1), y + 0.3), Box(x - 0.3, float(y0), x + 0.3, float(y1))]


def _make_key(figure: Figure, frame: Axes, dots: Sequence[Dot], heading: str) -> None:
    """Draw one line per dot with marker, name and note."""
    names_width = max(style.text_width(dot.label, 7) for dot in dots)
    notes_width = max(style.text_width(dot.note, 7) for dot in dots)
    room = 34 + max(names_width + notes_width, style.text_width(heading, 7))
    box = frame.get_position()
    frame.set_position((box.x0, box.y0, box.width - room / (72 * figure.get_figwidth()), box.height))
    inside = frame.get_window_extent().transformed(style.points(figure).inverted())
    left, right = inside.x1 + 14, inside.x1 + room - 2
    row = min(9.5, inside.height / (len(dots) + 1))
    options: dict[str, Any] = {"transform": style.points(figure), "size": 7, "va": "center_baseline"}
    figure.text(right, inside.y1 - row / 2, heading, ha="right", **options, color=style.GREY)
    for i, dot in enumerate(dots):
        y, look = inside.y1 - (i + 1.5) * row, style.look(dot.method)
        figure.add_artist(Line2D([left], [y], transform=style.points(figure), **look.dot(dot.hollow)))
        figure.text(left + 7, y, dot.label, **options)
        figure.text(right, y, dot.note, ha="right", **options)
