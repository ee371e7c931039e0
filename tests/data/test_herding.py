from __future__ import annotations

import numpy as np
import pytest

from benchmark.data.herding import herd


def test_herd_is_the_greedy_search() -> None:
    rows = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    mean = unit.mean(0)
    chosen: list[int] = []
    for _ in range(6):
        left = [i for i in range(12) if i not in chosen]
        chosen.append(min(left, key=lambda i: float(np.linalg.norm(mean - unit[[*chosen, i]].mean(0)))))
    assert herd(rows, 6).tolist() == chosen
    assert herd(rows, 3).tolist() == chosen[:3]
    assert herd(10 * rows, 6).tolist() == chosen


@pytest.mark.parametrize("count", [0, 4, 9])
def test_herd_chooses_no_image_twice(count: int) -> None:
    assert sorted(herd(np.ones((4, 3), np.float32), count)) == list(range(min(count, 4)))
