"""Intervals. Each has a name that says what it covers; mean and half-width come from one function and one array."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean and the half-width of its 95 % interval. ``half_width`` is None where ``n`` is too small for one.

    ``kind`` says what is resampled: ``seed`` (trainings), ``episode`` (draws of episodes from this data set),
    ``class`` (new classes) or ``image`` (new images of these classes).
    """

    kind: Literal["seed", "episode", "class", "image"]
    mean: float
    half_width: float | None
    n: int


def seed_interval(values: npt.ArrayLike) -> Interval:
    """Student t interval of the mean over seeds; no interval for one seed."""
    array = _values(values)
    return Interval(
        "seed",
        float(array.mean()),
        _t_half_width(array.std(ddof=1), len(array)) if len(array) > 1 else None,
        len(array),
    )


def episode_interval(accuracies: npt.ArrayLike) -> Interval:
    """The interval few-shot papers print: 1.96 standard errors over episodes. It covers the draw of episodes only."""
    return _normal_interval("episode", accuracies)


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


def image_interval(correct: npt.ArrayLike) -> Interval:
    """1.96 standard errors over images, taken as drawn one by one: near-duplicates among them make it too narrow.

    correct: one 0 or 1 per image. It covers the draw of the judged images only; no interval for one image.
    """
    return _normal_interval("image", correct)


def _normal_interval(kind: Literal["episode", "image"], values: npt.ArrayLike) -> Interval:
    array = _values(values)
    half = 1.96 * float(array.std(ddof=1)) / math.sqrt(len(array)) if len(array) > 1 else None
    return Interval(kind, float(array.mean()), half, len(array))


def _t_half_width(deviation: float, n: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, (1 + LEVEL) / 2)) * float(deviation) / math.sqrt(n)


def _values(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or len(array) == 0:
        raise ValueError(f"expected one or more values in one dimension, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("values must be finite")
    return array
