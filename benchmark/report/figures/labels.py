"""Where labels go: beside what they name, never over one another. Lengths are in any one unit, such as points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """An upright rectangle."""

    left: float
    bottom: float
    right: float
    top: float

    @classmethod
    def around(cls, centre: Point, width: float, height: float) -> Box:
        """One of such a size about a point."""
        x, y = centre
        return cls(x - width / 2, y - height / 2, x + width / 2, y + height / 2)

    def meets(self, other: Box) -> bool:
        """Whether the two have an area in common."""
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )

    def within(self, other: Box) -> bool:
        """Whether it lies in the other."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.bottom >= other.bottom
            and self.top <= other.top
        )

    def nearest(self, point: Point) -> Point:
        """The point of the rectangle that is nearest to another."""
        return min(max(point[0], self.left), self.right), min(max(point[1], self.bottom), self.top)

    def cut_by(self, start: Point, end: Point) -> bool:
        """Whether the segment from start to end passes through the inside."""
        low, high = 0.0, 1.0
        for a, b, least, most in (
            (start[0], end[0], self.left, self.right),
            (start[1], end[1], self.bottom, self.top),
        ):
            if a == b:
                if not least < a < most:
                    return False
                continue
            first, last = sorted(((least - a) / (b - a), (most - a) / (b - a)))
            low, high = max(low, first), min(high, last)
        return low < high


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> npt.NDArray[np.float64]:
    """Places in [low, high], each at least ``gap`` from the next and in the order of those wanted, as near as can be.

    Least squares: isotonic regression of what remains when the gaps are taken out. Where not all fit, the gaps shrink.
    """
    from scipy.optimize import isotonic_regression

    if not len(wanted):
        return np.empty(0)
    order = np.argsort(np.asarray(wanted, float), kind="stable")
    gap = min(gap, (high - low) / max(1, len(wanted) - 1))
    steps = gap * np.arange(len(wanted))
    free = isotonic_regression(np.asarray(wanted, float)[order] - steps).x
    places = np.empty(len(wanted))
    places[order] = np.clip(free, low, high - steps[-1]) + steps
    return places


def place(
    anchors: Sequence[Point],
    sizes: Sequence[Point],
    frame: Box,
    *,
    clear: float,
    reach: float,
    avoid: Sequence[Box] = (),
) -> list[Box] | None:
    """Boxes of such sizes within the frame, one near each anchor; None where not all find room within ``reach``.

    No two boxes meet, none covers an anchor (a square of side 2 ``clear``) and no straight line from an anchor to its
    box crosses another box. Boxes in ``avoid`` are kept off where that is possible. The most crowded anchors choose
    first, and the same input gives the same places.
    """
    marks = [Box.around(anchor, 2 * clear, 2 * clear) for anchor in anchors]
    crowd = [sum(math.dist(a, b) < reach for b in anchors) for a in anchors]
    placed: dict[int, Box] = {}
    for i in sorted(range(len(anchors)), key=lambda i: (-crowd[i], anchors[i], i)):
        best: tuple[float, Box] | None = None
        for distance, box in _candidates(anchors[i], sizes[i], clear, reach):
            if best is not None and distance >= best[0]:
                break
            if not box.within(frame) or not _free(i, box, anchors, marks, placed):
                continue
            cost = distance + 2 * clear * sum(box.meets(other) for other in avoid)
            if best is None or cost < best[0]:
                best = cost, box
        if best is None:
            return None
        placed[i] = best[1]
    return [placed[i] for i in range(len(anchors))]


def _candidates(anchor: Point, size: Point, clear: float, reach: float) -> list[tuple[float, Box]]:
    """Boxes about an anchor, from near to far and, as near, from the right and left to above and below.

    Each shows the anchor its middle where it lies straight beside, above or below it, and its corner else.
    """
    found = []
    for ring in range(1 + int(2 * (reach - clear) / clear)):
        radius = clear * (1 + ring / 2)
        for turn in range(24):
            across, up = math.cos(math.pi * turn / 12), math.sin(math.pi * turn / 12)
            centre = (
                anchor[0] + across * radius + size[0] / 2 * min(1.0, max(-1.0, 1.5 * across)),
                anchor[1] + up * radius + size[1] / 2 * min(1.0, max(-1.0, 1.5 * up)),
            )
            found.append((radius + 0.3 * clear * abs(up), Box.around(centre, *size)))
    return sorted(found, key=lambda item: item[0])


def _free(i: int, box: Box, anchors: Sequence[Point], marks: Sequence[Box], placed: dict[int, Box]) -> bool:
    if any(box.meets(mark) for mark in marks) or any(box.meets(other) for other in placed.values()):
        return False
    tip = box.nearest(anchors[i])
    if any(other.cut_by(anchors[i], tip) for other in placed.values()):
        return False
    return not any(box.cut_by(anchors[j], other.nearest(anchors[j])) for j, other in placed.items())
