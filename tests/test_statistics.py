from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from benchmark.statistics import (
    average_ranks,
    class_interval,
    episode_interval,
    holm,
    image_interval,
    paired_test,
    seed_interval,
)


def test_seed_interval_equals_students_t_of_scipy() -> None:
    values = [0.61, 0.64, 0.60, 0.66, 0.63]
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    interval = seed_interval(values)
    assert interval.mean == pytest.approx(np.mean(values), rel=1e-12)
    assert interval.half_width == pytest.approx((high - low) / 2, rel=1e-9)
    assert interval.n == 5


def test_seed_interval_of_one_seed_has_no_half_width() -> None:
    assert seed_interval([0.5]).half_width is None


@pytest.mark.parametrize("n", [3, 5, 10])
def test_seed_interval_covers_the_mean_in_95_percent_of_simulations(n: int) -> None:
    rng = np.random.default_rng(n)
    hits = 0
    for values in rng.normal(0.7, 0.01, (4000, n)):
        interval = seed_interval(values)
        assert interval.half_width is not None
        hits += abs(interval.mean - 0.7) <= interval.half_width
    assert 0.93 <= hits / 4000 <= 0.97


def test_episode_interval_is_1_96_standard_errors() -> None:
    accuracies = np.random.default_rng(0).integers(0, 76, 1000) / 75
    interval = episode_interval(accuracies)
    assert interval.half_width == pytest.approx(1.96 * np.std(accuracies, ddof=1) / math.sqrt(1000), rel=1e-12)


def test_class_interval_equals_a_naive_jackknife() -> None:
    rng = np.random.default_rng(1)
    classes = np.stack([rng.permutation(12)[:5] + 100 for _ in range(400)])
    accuracies = rng.random(400)
    pairs = list(zip(accuracies, classes, strict=True))
    deleted = [np.mean([a for a, row in pairs if c not in row]) for c in range(100, 112)]
    error = math.sqrt(11 / 12 * sum((d - np.mean(deleted)) ** 2 for d in deleted))
    interval = class_interval(classes, accuracies)
    assert interval.half_width == pytest.approx(stats.t.ppf(0.975, 11) * error, rel=1e-9)
    assert interval.n == 12


def test_class_interval_covers_new_classes_unlike_the_episode_interval() -> None:
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


def test_class_interval_is_none_if_every_episode_has_every_class() -> None:
    assert class_interval(np.tile(np.arange(5), (10, 1)), np.linspace(0, 1, 10)).half_width is None


def test_image_interval_equals_students_t_of_a_share() -> None:
    correct = np.arange(200) % 5 == 0
    interval = image_interval(correct)
    assert (interval.kind, interval.mean, interval.n) == ("image", 0.2, 200)
    assert interval.half_width == pytest.approx(stats.t.ppf(0.975, 199) * math.sqrt(0.2 * 0.8 / 199), rel=1e-9)
    assert image_interval([True]).half_width is None


def test_class_interval_of_a_difference_is_narrower_and_still_covers() -> None:
    """The same classes are hard for both methods, so their difference of 0.03 varies less over classes than either."""
    rng = np.random.default_rng(5)
    covered, widths = 0, []
    for _ in range(300):
        difficulty, gain = rng.normal(0.6, 0.1, 20), rng.normal(0.03, 0.02, 20)
        classes = rng.random((600, 20)).argsort(1)[:, :5]
        a = difficulty[classes].mean(1) + rng.normal(0, 0.05, 600)
        b = (difficulty + gain)[classes].mean(1) + rng.normal(0, 0.05, 600)
        paired, single = class_interval(classes, b - a), class_interval(classes, b)
        assert paired.half_width is not None
        assert single.half_width is not None
        covered += abs(paired.mean - 0.03) <= paired.half_width
        widths.append(paired.half_width / single.half_width)
    assert covered / 300 >= 0.9
    assert np.mean(widths) < 0.5


def test_image_interval_of_disjoint_episodes_covers_other_images_unlike_the_episode_interval() -> None:
    """Each image is always easy or always hard, so many draws from 200 images say little about other images."""
    rng = np.random.default_rng(6)
    covered = {"image": 0, "episode": 0}
    for _ in range(300):
        ease = rng.random(200) < 0.7
        repeated = ease[rng.integers(0, 200, (2000, 10))].mean(1)
        disjoint = ease[rng.permutation(200).reshape(20, 10)].mean(1)
        for interval in (image_interval(disjoint), episode_interval(repeated)):
            assert interval.half_width is not None
            covered[interval.kind] += abs(interval.mean - 0.7) <= interval.half_width
    assert 0.91 <= covered["image"] / 300 <= 0.99
    assert covered["episode"] / 300 <= 0.7


def test_paired_test_equals_scipy() -> None:
    rng = np.random.default_rng(7)
    a, b = rng.normal(0.7, 0.02, 8), rng.normal(0.68, 0.02, 8)
    test = paired_test(a - b)
    assert test.t_p == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-12)
    low, high = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert test.interval.half_width == pytest.approx((high - low) / 2, rel=1e-9)
    assert test.interval.mean == pytest.approx((high + low) / 2, rel=1e-9)
    assert test.effect == pytest.approx(np.mean(a - b) / np.std(a - b, ddof=1), rel=1e-12)


def test_paired_test_of_one_or_constant_differences_has_no_p() -> None:
    one, same, constant = paired_test([0.1]), paired_test([0.0, 0.0, 0.0]), paired_test([0.1, 0.1, 0.1])
    assert (one.t_p, one.effect, one.interval.half_width) == (None, None, None)
    assert (same.t_p, same.effect, same.interval.half_width) == (1.0, 0.0, None)
    assert (constant.t_p, constant.effect, constant.interval.half_width) == (None, None, None)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-10_000, 10_000), min_size=2, max_size=12))
def test_paired_test_and_its_interval_agree_on_zero(points: list[int]) -> None:
    differences = [each / 10_000 for each in points]
    test = paired_test(differences)
    if test.t_p is None or test.interval.half_width is None:
        assert len(set(points)) == 1
    elif abs(test.t_p - 0.05) > 1e-9:
        assert (test.t_p < 0.05) == (abs(test.interval.mean) > test.interval.half_width)


def test_intervals_do_not_close_where_all_is_right_or_all_is_wrong() -> None:
    """Of 10 of 10 images, Wilson's interval begins at 72.2 %."""
    right, wrong = np.ones(10), np.zeros(10)
    classes = np.stack([np.roll(np.arange(6), i)[:3] for i in range(10)])
    _, wilson = proportion_confint(10, 10, method="wilson")
    low, _ = proportion_confint(10, 10, method="wilson")
    assert wilson == 1
    for interval in (image_interval(right), episode_interval(right), image_interval(wrong), episode_interval(wrong)):
        assert interval.half_width == pytest.approx(1 - low)
        assert interval.half_width == pytest.approx(0.278, abs=1e-3)
    low, _ = proportion_confint(6, 6, method="wilson")
    assert class_interval(classes, right).half_width == pytest.approx(1 - low)
    for same in (image_interval, episode_interval):
        assert same(wrong, differences=True).half_width is None
        assert same([1.0]).half_width is None
    assert class_interval(classes, wrong, differences=True).half_width is None
    assert seed_interval([1.0, 1.0]).half_width is None
    assert seed_interval([0.5, 0.5]).half_width == 0


@pytest.mark.parametrize("n", [3, 5, 10])
def test_paired_test_keeps_its_error_rate_for_equal_methods(n: int) -> None:
    """The methods are equal on average; trainings vary, and the difficulty of a seed's episodes is common to both."""
    rng = np.random.default_rng(n)
    called = 0
    for _ in range(800):
        episodes = rng.normal(0, 0.02, n)
        a, b = episodes + rng.normal(0.7, 0.01, n), episodes + rng.normal(0.7, 0.01, n)
        test = paired_test(a - b)
        assert test.t_p is not None
        called += test.t_p < 0.05
    assert 0.03 <= called / 800 <= 0.07


def test_holm_keeps_the_family_error_and_equals_statsmodels() -> None:
    rng = np.random.default_rng(8)
    for p in ([0.01, 0.04, 0.03, 0.005], [0.5], [0.2, 0.2, 0.001, 0.9, 0.9], rng.random(20).tolist()):
        assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert holm([]) == []
    wrong = 0
    for _ in range(150):
        runs = rng.normal(0.7, 0.01, (5, 4))
        p = [paired_test(runs[:, i] - runs[:, j]).t_p or 1.0 for i in range(4) for j in range(i)]
        wrong += min(holm(p)) < 0.05
    assert wrong / 150 <= 0.07


def test_average_ranks_equal_pandas_and_depend_on_the_given_table_alone() -> None:
    table = np.random.default_rng(9).integers(50, 60, (7, 5)) / 100
    expected = pd.DataFrame(table).rank(axis=1, ascending=False).mean().to_numpy()
    np.testing.assert_allclose(average_ranks(table), expected)
    np.testing.assert_allclose(average_ranks([[0.5, 0.7, 0.7]]), [3, 1.5, 1.5])
    np.testing.assert_allclose(average_ranks([[0.5, 0.7]]), [2, 1])
    with pytest.raises(ValueError, match="complete table"):
        average_ranks([[0.5, float("nan")]])


def test_intervals_refuse_empty_nan_and_misshapen_samples() -> None:
    for bad in ([], [float("nan")], [[1.0, 2.0]]):
        with pytest.raises(ValueError, match="values"):
            seed_interval(bad)
    with pytest.raises(ValueError, match="E x N"):
        class_interval(np.zeros((3, 5), np.int64), [0.5, 0.5])
