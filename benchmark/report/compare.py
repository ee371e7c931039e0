"""Comparison of methods: differences on common seeds and episodes, tests, and a verdict as a sentence."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmark.errors import InputError
from benchmark.records.schema import Record
from benchmark.records.store import Store
from benchmark.report.aggregation import Conditions, MethodResult, group_by_conditions
from benchmark.statistics import (
    Interval,
    Paired,
    class_interval,
    episode_interval,
    holm,
    image_interval,
    paired_test,
)

ALPHA = 0.05
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """The difference ``a - b`` of two methods on their common seeds."""

    conditions: Conditions | None
    """The conditions of both methods, or None for all conditions together."""
    a: str
    """Label of the first method."""
    b: str
    """Label of the second method."""
    means: tuple[float, float]
    """Means of ``a`` and ``b`` in [0, 1]."""
    differences: tuple[float, ...]
    """One difference per seed, or per conditions and seed."""
    paired: Paired
    """Interval and tests of ``differences``."""
    within: Mapping[str, Interval]
    """Intervals of the difference between these trained networks on common episodes or images, by kind."""
    adjusted_p: float | None = None
    """``p`` after Holm's correction over all comparisons made together."""

    @property
    def test(self) -> str:
        """The test that decides: paired t, or signed ranks over several conditions with six or more differences."""
        return "paired t" if self.conditions is not None or len(self.differences) < 6 else "signed ranks"

    @property
    def p(self) -> float | None:
        """The p-value of ``test``, or None if the differences allow no test."""
        return self.paired.t_p if self.test == "paired t" else self.paired.wilcoxon_p

    @property
    def differs(self) -> bool:
        """Whether the difference is significant at the level ``ALPHA``."""
        return self.adjusted_p is not None and self.adjusted_p < ALPHA

    @property
    def sentence(self) -> str:
        """The verdict, in percentage points."""
        mean, half = self.paired.interval.mean, self.paired.interval.half_width
        n = len(self.differences)
        count = f"{n} seed{'s' * (n > 1)}" if self.conditions is not None else f"{n} pairs of conditions and seed"
        if half is None:
            return f"cannot tell {self.a} from {self.b}: {100 * mean:+.1f} points in one seed; run more with --seeds"
        better, worse, sign = (self.a, self.b, 1) if mean >= 0 else (self.b, self.a, -1)
        low, high = (100 * (sign * mean + side * half) for side in (-1, 1))
        evidence = f"95 % CI {low:.1f} to {high:.1f}, {count}; {self._test_phrase}"
        if self.differs:
            return f"{better} is better than {worse} by {100 * abs(mean):.1f} points, {evidence}"
        return f"cannot tell {self.a} from {self.b}: {better} ahead by {100 * abs(mean):.1f} points, {evidence}"

    @property
    def _test_phrase(self) -> str:
        if self.adjusted_p is None:
            return "no test: the differences of all seeds are equal"
        p = "< .001" if self.adjusted_p < 0.001 else "= " + f"{self.adjusted_p:.3f}".removeprefix("0")
        return f"{self.test}, Holm-adjusted p {p}"


def compare(
    results: Iterable[MethodResult], names: Sequence[str], store: Store, *, first: bool = False
) -> tuple[list[Comparison], list[str]]:
    """Compare every pair of methods within each set of conditions and over all of them.

    Only measured values are compared, on the seeds that both methods have finished.

    Args:
        results: Results of records in ``store``.
        names: Labels of the methods, such as ``refilled`` or ``refilled (margin=0.1)``.
        store: Store with the arrays of the records.
        first: Compare only the first method with each of the others.

    Returns:
        The comparisons, and one line for each pair that could not be compared under some conditions.

    Raises:
        InputError: If a name has no result, a pair has no common seed under any conditions, or two records of one
            seed were not evaluated on the same episodes or images.
    """
    groups = group_by_conditions(result for result in results if result.conditions.provenance == "measured")
    known = sorted({result.label for group in groups for result in group.results})
    for name in names:
        if name not in known:
            raise InputError(f"no records of {name!r} here; there are some of {', '.join(known) or 'no method'}")
    if len(set(names)) != len(names) or len(names) < 2:
        raise InputError(f"compare takes two different methods or more, got {', '.join(names)}")
    pairs = [(names[0], b) for b in names[1:]] if first else list(itertools.combinations(names, 2))
    comparisons: list[Comparison] = []
    left_out: list[str] = []
    for group in groups:
        by_label = {result.label: result for result in group.results}
        for a, b in pairs:
            if a not in by_label and b not in by_label:
                continue
            heading = f"{group.conditions.protocol} {group.conditions.dataset}"
            absent = [name for name in (a, b) if name not in by_label]
            if absent:
                left_out.append(f"{heading}: no record of {absent[0]}")
            elif not set(by_label[a].done) & set(by_label[b].done):
                left_out.append(f"{heading}: {a} and {b} have finished no seed in common")
            else:
                comparisons.append(_compare(by_label[a], by_label[b], store))
    for a, b in pairs:
        if not any((c.a, c.b) == (a, b) for c in comparisons):
            raise InputError(f"{a} and {b} have no seed of any protocol in common; run both with the same --seeds")
    return [*_adjusted(comparisons), *_adjusted(_over_conditions(comparisons))], list(dict.fromkeys(left_out))


def within_run(a: Sequence[Record], b: Sequence[Record], store: Store) -> dict[str, Interval]:
    """Return intervals of the accuracy of ``a`` minus that of ``b`` on common episodes or images.

    Args:
        a: Records of the first method, one per seed.
        b: Records of the second method, with the same seeds in the same order.
        store: Store with the arrays of the records.

    Returns:
        Intervals by kind; empty if the records keep no scores of single episodes or images.

        - ``episode``: over all episodes of all seeds.
        - ``class``: jackknife over the classes of these episodes.
        - ``image``: over images, each with its mean over seeds. For disjoint episodes the half-width is the mean over
          seeds, because all seeds share their images.

    Raises:
        InputError: If two records of one seed were not evaluated on the same classes, images or labels.
    """
    pairs = [(store.arrays(x), store.arrays(y)) for x, y in zip(a, b, strict=True)]
    names = set.intersection(*({*x} & {*y} for x, y in pairs))
    for x, y, record in zip(*zip(*pairs, strict=True), a, strict=True):
        for shared in ("classes", "images", "labels"):
            if shared in names and not np.array_equal(x[shared], y[shared]):
                raise InputError(
                    f"{record['method']} and the other method were not judged on the same {shared} on "
                    f"{record['protocol']} seed {record['seed']}; repeat one of them with run --mode force"
                )
    if "correct_student" in names:
        return _within_episodes(pairs, [record["facts"]["queries_per_episode"] for record in a], names)
    if {"predicted_student", "labels"} <= names:
        differences = [_correct(x) - _correct(y) for x, y in pairs]
        if all(np.array_equal(pairs[0][0]["images"], x["images"]) for x, _ in pairs):
            return {"image": image_interval(np.mean(differences, axis=0))}
    return {}


def sentences(comparisons: Sequence[Comparison]) -> list[str]:
    """Return one line per comparison: its conditions, then its verdict.

    The conditions are protocol and data set, with the preset if the comparisons have several.
    """
    presets = {c.conditions.preset for c in comparisons if c.conditions is not None}
    lines = []
    for c in comparisons:
        heading = "all"
        if c.conditions is not None:
            heading = f"{c.conditions.protocol} {c.conditions.dataset}"
            heading += f" {c.conditions.preset}" if len(presets) > 1 else ""
        lines.append(f"{heading}: {c.sentence}")
    return lines


def to_rows(comparisons: Iterable[Comparison]) -> list[dict[str, Any]]:
    """Return the comparisons as plain values for JSON or a table. Accuracies are in [0, 1]."""
    rows = []
    for c in comparisons:
        conditions = {
            name: getattr(c.conditions, name, "all") for name in ("protocol", "dataset", "preset", "backbone")
        }
        rows.append({
            **conditions, "a": c.a, "b": c.b, "a_mean": c.means[0], "b_mean": c.means[1],
            "difference": c.paired.interval.mean, "ci95": c.paired.interval.half_width, "n": len(c.differences),
            **{f"{k}_ci95": getattr(c.within.get(k), "half_width", None) for k in ("episode", "image", "class")},
            "effect": c.paired.effect, "t_p": c.paired.t_p, "wilcoxon_p": c.paired.wilcoxon_p,
            "adjusted_p": c.adjusted_p, "verdict": c.sentence,
        })  # fmt: skip
    return rows


def _compare(a: MethodResult, b: MethodResult, store: Store) -> Comparison:
    seeds = sorted(set(a.done) & set(b.done))
    records_a, records_b = ([result.done[seed] for seed in seeds] for result in (a, b))
    values = [np.array([record["value"] for record in records]) for records in (records_a, records_b)]
    differences = values[0] - values[1]
    return Comparison(
        a.conditions,
        a.label,
        b.label,
        (float(values[0].mean()), float(values[1].mean())),
        tuple(differences.tolist()),
        paired_test(differences),
        within_run(records_a, records_b, store),
    )


def _over_conditions(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Pool the differences of each pair of methods that is compared under several conditions."""
    together = []
    for a, b in dict.fromkeys((c.a, c.b) for c in comparisons):
        same_pair = [c for c in comparisons if (c.a, c.b) == (a, b)]
        if len(same_pair) > 1:
            differences = tuple(d for c in same_pair for d in c.differences)
            weights = [len(c.differences) for c in same_pair]
            means = tuple(float(np.average([c.means[i] for c in same_pair], weights=weights)) for i in (0, 1))
            together.append(Comparison(None, a, b, (means[0], means[1]), differences, paired_test(differences), {}))
    return together


def _adjusted(family: Sequence[Comparison]) -> list[Comparison]:
    """Set ``adjusted_p`` by Holm's correction over the comparisons that have a p-value."""
    tested = [i for i, c in enumerate(family) if c.p is not None]
    adjusted = dict(zip(tested, holm([p for c in family if (p := c.p) is not None]), strict=True))
    return [replace(c, adjusted_p=adjusted.get(i)) for i, c in enumerate(family)]


def _within_episodes(
    pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], queries: Sequence[int], names: set[str]
) -> dict[str, Interval]:
    def differences(name: str) -> list[Floats]:
        return [(x[name].astype(float) - y[name]) / count for (x, y), count in zip(pairs, queries, strict=True)]

    episodes = np.concatenate(differences("correct_student"))
    classes = np.concatenate([x["classes"] for x, _ in pairs]).astype(np.int64)
    intervals = {"episode": episode_interval(episodes), "class": class_interval(classes, episodes)}
    if "disjoint_correct_student" in names:
        by_seed = [image_interval(accuracies) for accuracies in differences("disjoint_correct_student")]
        halves = [interval.half_width for interval in by_seed if interval.half_width is not None]
        half = float(np.mean(halves)) if len(halves) == len(by_seed) else None
        intervals["image"] = Interval("image", float(episodes.mean()), half, min(interval.n for interval in by_seed))
    return intervals


def _correct(arrays: Mapping[str, Any]) -> Floats:
    correct: Floats = (arrays["predicted_student"] == arrays["labels"]).astype(float)
    return correct
