from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import minimize

from benchmark.report.figures.labels import Box, place, spread


def test_spread_is_the_least_squares_arrangement_with_gaps() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        wanted = rng.uniform(0, 60, 7)
        places = spread(wanted, 8, 0, 100)
        order = np.argsort(wanted)
        gaps = {"type": "ineq", "fun": lambda x, order=order: np.diff(x[order]) - 8}
        best = minimize(
            lambda x, wanted=wanted: np.square(x - wanted).sum(),
            np.linspace(0, 100, 7)[np.argsort(order)],
            bounds=[(0, 100)] * 7,
            constraints=gaps,
            method="SLSQP",
        )
        np.testing.assert_allclose(places, best.x, atol=1e-2)


def test_spread_keeps_distant_positions_and_stays_within_limits() -> None:
    assert spread([30, 10, 50], 8, 0, 60).tolist() == [30, 10, 50]
    assert spread([99, 100], 8, 0, 100).tolist() == [92, 100]
    assert spread([], 8, 0, 100).tolist() == []
    crowded = spread([5.0] * 11, 20, 0, 100)
    assert (crowded.min(), crowded.max()) == (0, 100)
    np.testing.assert_allclose(np.diff(crowded), 10)


def test_box_is_cut_by_segments_with_a_point_inside() -> None:
    rng = np.random.default_rng(0)
    box = Box(2, 2, 6, 5)
    for _ in range(300):
        start, end = rng.uniform(0, 8, 2), rng.uniform(0, 8, 2)
        points = start + np.linspace(0, 1, 2001)[:, None] * (end - start)
        inside = ((points > (box.left, box.bottom)) & (points < (box.right, box.top))).all(1)
        if inside.sum() not in (1, 2):  # a corner barely cut
            assert box.cut_by((start[0], start[1]), (end[0], end[1])) == inside.any()
    assert box.cut_by((0, 3), (9, 3))
    assert not box.cut_by((0, 2), (9, 2))


def crowd(count: int, side: float) -> list[tuple[float, float]]:
    rng = np.random.default_rng(1)
    return [(float(x), float(y)) for x, y in 100 + rng.uniform(0, side, (count, 2))]


def test_place_returns_boxes_that_overlap_neither_boxes_nor_anchors() -> None:
    anchors = crowd(25, 170)
    sizes = [(20.0 + i, 7.0) for i in range(25)]
    boxes = place(anchors, sizes, Box(0, 0, 370, 370), clear=3, reach=40)
    assert boxes is not None
    for a, b in itertools.combinations(boxes, 2):
        assert a.right <= b.left or b.right <= a.left or a.top <= b.bottom or b.top <= a.bottom
    for (x, y), box in itertools.product(anchors, boxes):
        assert not (box.left < x < box.right and box.bottom < y < box.top)
    for anchor, box, (width, height) in zip(anchors, boxes, sizes, strict=True):
        assert box.right - box.left == pytest.approx(width)
        assert box.top - box.bottom == pytest.approx(height)
        assert math.dist(anchor, box.nearest(anchor)) <= 40
        assert box.within(Box(0, 0, 370, 370))


def test_place_keeps_lines_to_boxes_free_of_other_boxes() -> None:
    anchors = crowd(25, 170)
    boxes = place(anchors, [(25.0, 7.0)] * 25, Box(0, 0, 370, 370), clear=3, reach=40)
    assert boxes is not None
    for i, j in itertools.permutations(range(25), 2):
        assert not boxes[j].cut_by(anchors[i], boxes[i].nearest(anchors[i]))


def test_place_returns_none_without_room() -> None:
    assert place(crowd(25, 5), [(40.0, 8.0)] * 25, Box(0, 0, 370, 370), clear=3, reach=20) is None


def test_place_keeps_boxes_off_avoided_areas() -> None:
    (box,) = place([(50, 50)], [(20, 8)], Box(0, 0, 100, 100), clear=3, reach=30) or []
    assert box.left >= 53
    bar = Box(0, 49, 100, 51)
    (box,) = place([(50, 50)], [(20, 8)], Box(0, 0, 100, 100), clear=3, reach=30, avoid=[bar]) or []
    assert not box.meets(bar)
