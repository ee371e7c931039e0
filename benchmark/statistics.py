"""Intervals, each with a name that says what it covers, and tests of differences between methods.

Mean and half-width come from one function and one array.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
Kind = Literal["seed", "episode", "class", "image"]


@dataclass(frozen=True)
class Interval:
    """A mean and the half-width of its 95 % interval. ``half_width`` is None where ``n`` is too small for one.

    ``kind`` says what is resampled: ``seed`` (trainings), ``episode`` (draws of episodes from this data set),
    ``class`` (new classes) or ``image`` (new images of these classes).
    """

    kind: Kind
    mean: float
    half_width: float | None
    n: int


def seed_interval(values: npt.ArrayLike) -> Interval:
    """Student t interval of the mean over seeds; no interval for one seed."""
    return _t_interval("seed", values)


def episode_interval(accuracies: npt.ArrayLike) -> Interval:
    """The interval few-shot papers print: 1.96 standard errors over episodes. It covers the draw of episodes only."""
    array = _values(accuracies)
    half = 1.96 * float(array.std(ddof=1)) / math.sqrt(len(array)) if len(array) > 1 else None
    return Interval("episode", float(array.mean()), half, len(array))


def class_interval(classes: npt.NDArray[np.int64], accuracies: npt.ArrayLike) -> Interval:
    """Delete-one-class jackknife: how far the mean holds for other classes of the same kind.

    classes: E x N class ids; accuracies: E. Each delete-one estimate is the mean of the episodes without that class;
    the half-width is Student's t at C - 1 degrees of freedom times the jackknife standard error. No interval where
    some class is in every episode. Lafargue et al., TMLR 2024, arXiv 2409.02850, on what few-shot intervals cover.
    """
    array = _values(accuracies)
    if classes.ndim != 2 or len(classes) != len(array):
        raise ValueError(f"classes must be E x N for E = {len(array)} accuracies, got {classes.shape}")
    ids, at = np.unique(classes, return_inverse=True)
    count = len(ids)
    member = np.zeros((len(array), count), bool)
    member[np.arange(len(array))[:, None], at.reshape(classes.shape)] = True
    without = len(array) - member.sum(axis=0)
    if count < 2 or without.min() == 0:
        return Interval("class", float(array.mean()), None, count)
    deleted = (array.sum() - member.T @ array) / without
    error = math.sqrt((count - 1) / count * float(np.square(deleted - deleted.mean()).sum()))
    from scipy.special import stdtrit

    return Interval("class", float(array.mean()), float(stdtrit(count - 1, (1 + LEVEL) / 2)) * error, count)


def image_interval(accuracies: npt.ArrayLike) -> Interval:
    """Student t interval over units that share no image: how far the mean holds for other images of these classes.

    accuracies: one 0 or 1 per image, or one number per episode of ``data.episodes.sample_disjoint_episodes``.
    Images count as drawn one by one: near-duplicates among them make it too narrow. No interval for one unit.
    """
    return _t_interval("image", accuracies)


@dataclass(frozen=True)
class Paired:
    """What seed-level differences between two methods say.

    interval: their mean with its Student t interval; t_p and wilcoxon_p: two-sided p-values of the paired t-test and of
    Wilcoxon's signed ranks; effect: mean over standard deviation of the differences (Cohen's d of paired values). None
    where there is none: with one difference, or (t_p and effect) with differences that are equal but not zero, whose
    spread is unknown rather than nil.
    """

    interval: Interval
    t_p: float | None
    wilcoxon_p: float | None
    effect: float | None


def paired_test(differences: npt.ArrayLike) -> Paired:
    """Test whether differences, one per training seed (or per protocol and seed), are zero on average.

    The unit is the training seed: the same two networks on more episodes are no more evidence on the two methods.
    Wilcoxon's p cannot reach .05 with fewer than 6 differences.
    """
    from scipy import stats

    array = _values(differences)
    interval = _t_interval("seed", array)
    if len(array) == 1:
        return Paired(interval, None, None, None)
    if not array.any():
        return Paired(interval, 1.0, 1.0, 0.0)
    wilcoxon = float(stats.wilcoxon(array).pvalue)
    deviation = float(array.std(ddof=1))
    # values that should be equal differ in the last bit
    if deviation <= 1e-12 * float(np.abs(array).max()):
        return Paired(interval, None, wilcoxon, None)
    return Paired(interval, float(stats.ttest_1samp(array, 0.0).pvalue), wilcoxon, interval.mean / deviation)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in their order. Holm, Scandinavian Journal of Statistics 6, 1979.

    Each stays as small as the family error rate allows and depends on the p-values of this family alone.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(order)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def average_ranks(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Mean rank of each method (column) over cells (rows), 1 for the largest value; ties share their mean rank.

    Every method has a value in every cell: ranks of incomplete tables mean nothing, NaN raises ``ValueError``.
    """
    from scipy import stats

    table = np.asarray(values, np.float64)
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise ValueError(f"ranks take a complete table of cells by methods, got shape {table.shape}")
    ranks: npt.NDArray[np.float64] = stats.rankdata(-table, axis=1).mean(axis=0)
    return ranks


def _t_interval(kind: Kind, values: npt.ArrayLike) -> Interval:
    from scipy.special import stdtrit

    array = _values(values)
    n = len(array)
    if n == 1:
        return Interval(kind, float(array.mean()), None, 1)
    quantile = float(stdtrit(n - 1, (1 + LEVEL) / 2))
    return Interval(kind, float(array.mean()), quantile * float(array.std(ddof=1)) / math.sqrt(n), n)


def _values(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or len(array) == 0:
        raise ValueError(f"expected one or more values in one dimension, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("values must be finite")
    return array
