"""Confidence intervals, named by the quantity that is resampled, and tests of differences between methods.

One function computes mean and half-width from one array.
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
    """A mean with its 95 % interval."""

    kind: Kind
    """What is resampled.

    ``seed``: trainings; ``episode``: draws of episodes from this data set; ``class``: other classes; ``image``: other
    images of these classes.
    """
    mean: float
    half_width: float | None
    """Distance from the mean to the ends of the interval, which stays in [0, 1] at a mean of 0 or 1.

    None if there is no interval: ``n`` is too small, or the sample shows no spread that one could be made of.
    """
    n: int
    """Number of resampled units."""


def seed_interval(values: npt.ArrayLike) -> Interval:
    """Return the Student t interval of the mean over seeds.

    One seed has no interval. Seeds that all reach 0 or all reach 1 have none: they show no spread.
    """
    array = _values(values)
    return Interval("seed", float(array.mean()), None, len(array)) if _at_edge(array) else _t_interval("seed", array)


def episode_interval(accuracies: npt.ArrayLike, *, differences: bool = False) -> Interval:
    """Return the interval of few-shot papers: 1.96 standard errors over episodes.

    It covers the draw of episodes only.

    Args:
        accuracies: One accuracy per episode, or one difference of two accuracies.
        differences: Whether they are differences.
    """
    array = _values(accuracies)
    if len(array) > 1 and (edge := _edge_interval("episode", array, len(array), differences)):
        return edge
    half = 1.96 * float(array.std(ddof=1)) / math.sqrt(len(array)) if len(array) > 1 else None
    return Interval("episode", float(array.mean()), half, len(array))


def class_interval(classes: npt.NDArray[np.int64], accuracies: npt.ArrayLike, *, differences: bool = False) -> Interval:
    """Return the delete-one-class jackknife interval, which covers other classes of the same kind.

    A delete-one estimate is the mean over the episodes without one class. The half-width is Student's t at C - 1
    degrees of freedom times the jackknife standard error, for C classes. There is no interval if some class is in every
    episode. See Lafargue et al., TMLR 2024, arXiv 2409.02850, on the meaning of few-shot intervals.

    Args:
        classes: Class ids of E episodes with N classes each, E x N.
        accuracies: Accuracy of each episode, or difference of two accuracies, E.
        differences: Whether they are differences.
    """
    array = _values(accuracies)
    if classes.ndim != 2 or len(classes) != len(array):
        raise ValueError(f"classes must be E x N for E = {len(array)} accuracies, got {classes.shape}")
    ids, index = np.unique(classes, return_inverse=True)
    count = len(ids)
    member = np.zeros((len(array), count), bool)
    member[np.arange(len(array))[:, None], index.reshape(classes.shape)] = True
    without = len(array) - member.sum(axis=0)
    if count < 2 or without.min() == 0:
        return Interval("class", float(array.mean()), None, count)
    if edge := _edge_interval("class", array, count, differences):
        return edge
    deleted = (array.sum() - member.T @ array) / without
    error = math.sqrt((count - 1) / count * float(np.square(deleted - deleted.mean()).sum()))
    from scipy.special import stdtrit

    return Interval("class", float(array.mean()), float(stdtrit(count - 1, (1 + LEVEL) / 2)) * error, count)


def image_interval(accuracies: npt.ArrayLike, *, differences: bool = False) -> Interval:
    """Return the Student t interval over units without common images, which covers other images of these classes.

    Images count as independent, so near-duplicates make the interval too narrow. One unit has no interval.

    Args:
        accuracies: One 0 or 1 per image, or one accuracy per episode of ``data.episodes.sample_disjoint_episodes``; or
            one difference of two of them.
        differences: Whether they are differences.
    """
    array = _values(accuracies)
    edge = _edge_interval("image", array, len(array), differences) if len(array) > 1 else None
    return edge or _t_interval("image", array)


@dataclass(frozen=True)
class Paired:
    """Interval and tests of the differences between two methods.

    With one difference there is neither test nor effect. Several differences that are equal show no spread: they have
    no interval, and neither ``t_p`` nor ``effect`` unless all are zero.
    """

    interval: Interval
    """Mean of the differences with its Student t interval, which excludes 0 exactly where ``t_p`` is below .05."""
    t_p: float | None
    """Two-sided p-value of the paired t-test."""
    effect: float | None
    """Mean over standard deviation of the differences: Cohen's d of paired values."""


def paired_test(differences: npt.ArrayLike) -> Paired:
    """Test whether differences are zero on average.

    The unit is the training seed: more episodes of the same two networks are no further evidence on the two methods.

    Args:
        differences: One difference per training seed.
    """
    from scipy import stats

    array = _values(differences)
    deviation = float(array.std(ddof=1)) if len(array) > 1 else 0.0
    # rounding makes values that should be equal differ in the last bit
    if deviation <= 1e-12 * float(np.abs(array).max()):
        none = Interval("seed", float(array.mean()), None, len(array))
        return Paired(none, None, None) if len(array) == 1 or array.any() else Paired(none, 1.0, 0.0)
    interval = _t_interval("seed", array)
    return Paired(interval, float(stats.ttest_1samp(array, 0.0).pvalue), interval.mean / deviation)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values by Holm's step-down procedure, which controls the family-wise error rate.

    Holm, Scandinavian Journal of Statistics 6, 1979.

    Args:
        p_values: The p-values of all comparisons made together.

    Returns:
        The adjusted p-values in the order of ``p_values``.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(order)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def average_ranks(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the mean rank of each method; the largest value has rank 1 and ties share their mean rank.

    Args:
        values: One row per protocol and one column per method, without missing values.

    Raises:
        ValueError: If the table is empty or a value is missing; ranks of incomplete tables are meaningless.
    """
    from scipy import stats

    table = np.asarray(values, np.float64)
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise ValueError(f"ranks take a complete table of protocols by methods, got shape {table.shape}")
    ranks: npt.NDArray[np.float64] = stats.rankdata(-table, axis=1).mean(axis=0)
    return ranks


def _at_edge(values: npt.NDArray[np.float64]) -> bool:
    """Whether all values are 0, or all are 1: their spread says nothing about that of other samples."""
    return not values.any() or bool((values == 1).all())


def _edge_interval(kind: Kind, values: npt.NDArray[np.float64], n: int, differences: bool) -> Interval | None:
    """Return the interval of n units that are all right or all wrong; None if they are neither.

    Accuracies have Wilson's interval, n of n right has n / (n + z^2) as its other end, z the normal quantile. See
    Wilson, Journal of the American Statistical Association 22, 1927. Differences that are all 0 have none.
    """
    if differences and not values.any():
        return Interval(kind, 0.0, None, n)
    if differences or not _at_edge(values):
        return None
    from scipy.special import ndtri

    z = float(ndtri((1 + LEVEL) / 2))
    return Interval(kind, float(values[0]), z**2 / (n + z**2), n)


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
