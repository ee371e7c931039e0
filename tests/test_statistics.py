from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from benchmark.statistics import class_interval, episode_interval, image_interval, seed_interval


def test_seed_interval_is_students_t() -> None:
    values = [0.61, 0.64, 0.60, 0.66, 0.63]
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    interval = seed_interval(values)
    assert interval.mean == pytest.approx(np.mean(values), rel=1e-12)
    assert interval.half_width == pytest.approx((high - low) / 2, rel=1e-9)
    assert interval.n == 5


def test_one_seed_has_no_interval() -> None:
    assert seed_interval([0.5]).half_width is None


@pytest.mark.parametrize("n", [3, 5, 10])
def test_seed_interval_covers_as_it_says(n: int) -> None:
    rng = np.random.default_rng(n)
    hits = 0
    for values in rng.normal(0.7, 0.01, (4000, n)):
        interval = seed_interval(values)
        assert interval.half_width is not None
        hits += abs(interval.mean - 0.7) <= interval.half_width
    assert 0.93 <= hits / 4000 <= 0.97


def test_episode_interval_is_the_one_papers_print() -> None:
    accuracies = np.random.default_rng(0).integers(0, 76, 1000) / 75
    interval = episode_interval(accuracies)
    assert interval.half_width == pytest.approx(1.96 * np.std(accuracies, ddof=1) / math.sqrt(1000), rel=1e-12)


def test_class_interval_equals_a_plain_jackknife() -> None:
    rng = np.random.default_rng(1)
    classes = np.stack([rng.permutation(12)[:5] + 100 for _ in range(400)])
    accuracies = rng.random(400)
    pairs = list(zip(accuracies, classes, strict=True))
    deleted = [np.mean([a for a, row in pairs if c not in row]) for c in range(100, 112)]
    error = math.sqrt(11 / 12 * sum((d - np.mean(deleted)) ** 2 for d in deleted))
    interval = class_interval(classes, accuracies)
    assert interval.half_width == pytest.approx(stats.t.ppf(0.975, 11) * error, rel=1e-9)
    assert interval.n == 12


def test_class_interval_covers_new_classes_where_the_episode_interval_does_not() -> None:
    """An episode's accuracy is the mean difficulty of its classes; 20 classes come from a population of mean 0.6."""
    rng = np.random.default_rng(2)
    covered = {"class": 0, "episode": 0}
    for _ in range(300):
        difficulty = rng.normal(0.6, 0.1, 20)
        classes = rng.random((600, 20)).argsort(1)[:, :5]
        accuracies = difficulty[classes].mean(1) + rng.normal(0, 0.05, 600)
        for interval in (class_interval(classes, accuracies), episode_interval(accuracies)):
            assert interval.half_width is not None
            covered[interval.kind] += abs(interval.mean - 0.6) <= interval.half_width
    assert covered["class"] / 300 >= 0.9
    assert covered["episode"] / 300 <= 0.5


def test_no_class_interval_where_every_episode_holds_every_class() -> None:
    assert class_interval(np.tile(np.arange(5), (10, 1)), np.linspace(0, 1, 10)).half_width is None


def test_image_interval_is_that_of_a_share() -> None:
    correct = np.arange(200) % 5 == 0
    interval = image_interval(correct)
    assert (interval.kind, interval.mean, interval.n) == ("image", 0.2, 200)
    assert interval.half_width == pytest.approx(1.96 * math.sqrt(0.2 * 0.8 / 199), rel=1e-12)
    assert image_interval([True]).half_width is None


def test_what_is_no_sample_is_refused() -> None:
    for bad in ([], [float("nan")], [[1.0, 2.0]]):
        with pytest.raises(ValueError, match="values"):
            seed_interval(bad)
    with pytest.raises(ValueError, match="E x N"):
        class_interval(np.zeros((3, 5), np.int64), [0.5, 0.5])
