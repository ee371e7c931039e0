"""Placement of labels near their anchors without overlap. All lengths are in one unit, such as points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A rectangle parallel to the axes."""

    left: float
    bottom: float
    right: float
    top: float

    @classmethod
    def around(cls, centre: Point, width: float, height: float) -> Box:
        """Return the rectangle of a given size around a point."""
        x, y = centre
        return cls(x - width / 2, y - height / 2, x + width / 2, y + height / 2)

    def meets(self, other: Box) -> bool:
        """Return whether the two rectangles overlap."""
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )

    def within(self, other: Box) -> bool:
        """Return whether the rectangle lies within the other."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.bottom >= other.bottom
            and self.top <= other.top
        )

    def nearest(self, point: Point) -> Point:
        """Return the point of the rectangle nearest to a given point."""
        return min(max(point[0], self.left), self.right), min(max(point[1], self.bottom), self.top)

    def cut_by(self, start: Point, end: Point) -> bool:
        """Return whether the segment from start to end passes through the interior."""
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
    """Return the positions nearest to those wanted, in least squares, that keep their order and a minimum gap.

    The solution is an isotonic regression after the gaps are subtracted.

    Args:
        wanted: N positions.
        gap: Minimum distance of neighbours. It shrinks if not all positions fit.
        low: Smallest position.
        high: Largest position.
    """
    from scipy.optimize import isotonic_regression

    if not len(wanted):
        return np.empty(0)
    order = np.argsort(np.asarray(wanted, float), kind="stable")
    gap = min(gap, (high - low) / max(1, len(wanted) - 1))
    steps = gap * np.arange(len(wanted))
    without_gaps = isotonic_regression(np.asarray(wanted, float)[order] - steps).x
    positions = np.empty(len(wanted))
    positions[order] = np.clip(without_gaps, low, high - steps[-1]) + steps
    return positions


def place(
    anchors: Sequence[Point],
    sizes: Sequence[Point],
    frame: Box,
    *,
    clear: float,
    reach: float,
    avoid: Sequence[Box] = (),
) -> list[Box] | None:
    """Place one box near each anchor.

    Boxes do not overlap each other or an anchor, and no straight line from an anchor to its box crosses another box.
    Anchors with the most neighbours choose first. The result is deterministic.

    Args:
        anchors: Points to label.
        sizes: Width and height of each box.
        frame: Rectangle that contains all boxes.
        clear: Half the side of the square around an anchor that boxes keep free.
        reach: Maximum distance of a box from its anchor.
        avoid: Rectangles that boxes keep free if possible.

    Returns:
        One box per anchor, or None if a box does not fit.
    """
    marks = [Box.around(anchor, 2 * clear, 2 * clear) for anchor in anchors]
    neighbours = [sum(math.dist(a, b) < reach for b in anchors) for a in anchors]
    placed: dict[int, Box] = {}
    for i in sorted(range(len(anchors)), key=lambda i: (-neighbours[i], anchors[i], i)):
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
    """Return boxes around an anchor with their cost, nearest first; at equal distance left and right come first.

    A box straight beside, above or below the anchor is centred on it; other boxes have a corner near it.
    """
    candidates = []
    for ring in range(1 + int(2 * (reach - clear) / clear)):
        radius = clear * (1 + ring / 2)
        for turn in range(24):
            across, up = math.cos(math.pi * turn / 12), math.sin(math.pi * turn / 12)
            centre = (
                anchor[0] + across * radius + size[0] / 2 * min(1.0, max(-1.0, 1.5 * across)),
                anchor[1] + up * radius + size[1] / 2 * min(1.0, max(-1.0, 1.5 * up)),
            )
            candidates.append((radius + 0.3 * clear * abs(up), Box.around(centre, *size)))
    return sorted(candidates, key=lambda item: item[0])


def _free(i: int, box: Box, anchors: Sequence[Point], marks: Sequence[Box], placed: dict[int, Box]) -> bool:
    """Return whether box ``i`` overlaps neither marks nor placed boxes, and no line to a box is crossed."""
    if any(box.meets(mark) for mark in marks) or any(box.meets(other) for other in placed.values()):
        return False
    tip = box.nearest(anchors[i])
    if any(other.cut_by(anchors[i], tip) for other in placed.values()):
        return False
    return not any(box.cut_by(anchors[j], other.nearest(anchors[j])) for j, other in placed.items())
