from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from benchmark.data.image_set import IntArray
from benchmark.training import correct_queries, nearest_centroid


def naive(features: torch.Tensor, support: IntArray, query: IntArray, normalise: bool) -> list[int]:
    x = features.double().numpy()
    if normalise:
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    counts = []
    for s, q in zip(support, query, strict=True):
        centroids = [x[rows].mean(0) for rows in s]
        correct = 0
        for way, rows in enumerate(q):
            for row in rows:
                distances = [float(((x[row] - c) ** 2).sum()) for c in centroids]
                correct += int(np.argmin(distances)) == way
        counts.append(correct)
    return counts


def episodes(rows: int, count: int, way: int, shot: int, query: int) -> tuple[IntArray, IntArray]:
    rng = np.random.default_rng(0)
    drawn = np.stack([rng.permutation(rows)[: way * (shot + query)] for _ in range(count)]).reshape(count, way, -1)
    return drawn[..., :shot], drawn[..., shot:]


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(("way", "shot", "dim"), [(5, 1, 128), (5, 5, 300), (5, 5, 64), (3, 2, 8), (20, 5, 16)])
def test_correct_queries_equal_a_naive_loop(way: int, shot: int, dim: int, normalise: bool) -> None:
    features = torch.randn(400, dim, generator=torch.Generator().manual_seed(1)) * 3
    support, query = episodes(400, 40, way, shot, 7)
    assert correct_queries(features, support, query, normalise=normalise).tolist() == naive(
        features, support, query, normalise
    )


def test_gram_matrix_and_centroids_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    features = torch.randn(500, 300, generator=torch.Generator().manual_seed(2))
    support, query = episodes(500, 60, 5, 5, 15)
    by_gram = correct_queries(features, support, query, normalise=True)
    monkeypatch.setattr(nearest_centroid, "_GRAM_ROWS", 0)
    monkeypatch.setattr(nearest_centroid, "_CHUNK", 1 << 16)
    assert np.array_equal(correct_queries(features, support, query, normalise=True), by_gram)


def test_perfect_features_are_always_right() -> None:
    labels = np.repeat(np.arange(20), 20)
    support = np.stack([np.random.default_rng(i).permutation(20)[:5] for i in range(50)])[..., None] * 20
    query = support + np.arange(1, 16)
    assert (labels[query] == labels[support]).all()
    features = torch.nn.functional.one_hot(torch.from_numpy(labels)).float()
    assert (correct_queries(features, support, query, normalise=True) == 75).all()


@pytest.mark.parametrize("constant", [True, False])
def test_features_without_information_give_chance(constant: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    features = torch.ones(600, 32) if constant else torch.randn(600, 32, generator=generator)
    support, query = episodes(600, 400, 5, 1, 15)
    share = correct_queries(features, support, query, normalise=True).mean() / 75
    assert share == pytest.approx(0.2, abs=0.012)


def test_ten_thousand_episodes_take_about_a_second() -> None:
    features = torch.randn(3000, 64)
    support, query = episodes(3000, 10_000, 5, 1, 15)
    started = time.perf_counter()
    correct_queries(features, support, query, normalise=True)
    assert time.perf_counter() - started < 5


def test_shapes_that_do_not_fit_raise() -> None:
    with pytest.raises(ValueError, match=r"got \(4, 2, 2\)"):
        correct_queries(
            torch.zeros(4, 2, 2), np.zeros((1, 2, 1), np.int64), np.zeros((1, 2, 1), np.int64), normalise=True
        )
