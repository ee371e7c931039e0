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
from benchmark.records.store import DamagedArrays, Store
from benchmark.report.aggregation import Conditions, Heading, MethodResult
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
    """The first method as it was named, ``LABEL`` or ``LABEL@TEACHER``."""
    b: str
    """The second method."""
    seeds: tuple[int, ...]
    """The common seeds."""
    values: tuple[tuple[float, ...], tuple[float, ...]]
    """Values of ``a`` and ``b`` in [0, 1] by seed; over several conditions, the mean over them within each seed."""
    paired: Paired
    """Interval and test of ``differences``."""
    within: Mapping[str, Interval]
    """Intervals of the difference between these trained networks on common episodes or images, by kind."""
    damage: str | None = None
    """Why ``within`` is empty though the records have arrays: the arrays are damaged."""
    pooled: int = 1
    """Number of conditions that each value is a mean over."""
    adjusted_p: float | None = None
    """``p`` after Holm's correction over all comparisons made together."""
    family: int = 1
    """Number of comparisons that Holm's correction is over."""

    @property
    def means(self) -> tuple[float, float]:
        """Means of ``a`` and ``b`` over the seeds."""
        a, b = (float(np.mean(values)) for values in self.values)
        return a, b

    @property
    def differences(self) -> tuple[float, ...]:
        """One difference per seed."""
        return tuple(a - b for a, b in zip(*self.values, strict=True))

    @property
    def p(self) -> float | None:
        """The p-value of the paired t-test over seeds, or None if the differences allow no test."""
        return self.paired.t_p

    @property
    def differs(self) -> bool:
        """Whether the difference is significant at the level ``ALPHA``; its interval then excludes 0."""
        return self.adjusted_p is not None and self.adjusted_p < ALPHA

    @property
    def sentence(self) -> str:
        """The verdict, in percentage points. Its interval and its p-value are of one test."""
        mean, half = self.paired.interval.mean, self.paired.interval.half_width
        n = len(self.differences)
        count = f"{n} seed{'s' * (n > 1)}" + (f", each a mean over {self.pooled} conditions" if self.pooled > 1 else "")
        if n == 1:
            return (
                f"cannot tell {self.a} from {self.b}: {100 * mean:+.1f} points in one seed"
                f"{count.removeprefix('1 seed')}; run more with --seeds"
            )
        if half is None and mean == 0:
            return f"cannot tell {self.a} from {self.b}: equal in every seed, {count}"
        better, worse, sign = (self.a, self.b, 1) if mean >= 0 else (self.b, self.a, -1)
        ahead = f"{better} ahead by {100 * abs(mean):.1f} points"
        if half is None:
            return (
                f"cannot tell {self.a} from {self.b}: {ahead} in every seed, {count}; no interval and no test, because "
                "the seeds show no spread"
            )
        low, high = (_points(100 * (sign * mean + side * half)) for side in (-1, 1))
        evidence = f"95 % CI {low} to {high}, {count}; {self._test_phrase}"
        if self.differs:
            return f"{better} is better than {worse} by {100 * abs(mean):.1f} points, {evidence}"
        return f"cannot tell {self.a} from {self.b}: {ahead}, {evidence}"

    @property
    def _test_phrase(self) -> str:
        assert self.p is not None  # of differences with an interval
        assert self.adjusted_p is not None
        if self.family == 1:
            return f"paired t, p {_p(self.p)}"
        adjusted = f"p {_p(self.adjusted_p)} after Holm's correction over {self.family} comparisons"
        if self.p < ALPHA <= self.adjusted_p:
            return f"paired t, p {_p(self.p)} alone, but {adjusted}"
        return f"paired t, {adjusted}"


def _points(points: float) -> str:
    """Format an end of an interval with as many digits as show on which side of 0 it is."""
    digits = next((digits for digits in range(1, 6) if round(points, digits)), 1)
    return f"{points:.{digits}f}" if round(points, digits) else "0.0"


def _p(value: float) -> str:
    if value < 0.001:
        return "< .001"
    digits = next((digits for digits in range(3, 8) if (round(value, digits) < ALPHA) == (value < ALPHA)), 8)
    return "= " + f"{value:.{digits}f}".removeprefix("0")


@dataclass(frozen=True)
class _Named:
    """A method as it was named: a label, and a teacher if one was named."""

    name: str
    label: str
    teacher: str | None

    def results(self, results: Iterable[MethodResult]) -> list[MethodResult]:
        """The results of this method."""
        return [r for r in results if r.label == self.label and self.teacher in (None, r.conditions.teacher)]


def compare(
    results: Iterable[MethodResult], names: Sequence[str], store: Store, *, first: bool = False
) -> tuple[list[Comparison], list[str]]:
    """Compare every pair of methods within each set of conditions and over all of them.

    Only measured values are compared, on the seeds that both methods have finished.

    Args:
        results: Results of records in ``store``.
        names: Labels of the methods, such as ``refilled`` or ``refilled (margin=0.1)``. ``LABEL@TEACHER`` stands for
            the runs with that teacher: two such names compare runs whose conditions differ in the teacher alone.
        store: Store with the arrays of the records.
        first: Compare only the first method with each of the others.

    Returns:
        The comparisons, and one line for each pair that could not be compared under some conditions.

    Raises:
        InputError: If a name has no result, a pair has no common seed under any conditions, or two records of one
            seed were not evaluated on the same episodes or images.
    """
    measured = [result for result in results if result.conditions.provenance == "measured"]
    named = [_find(name, measured) for name in names]
    if len(set(names)) != len(names) or len(names) < 2:
        raise InputError(f"compare takes two different methods or more, got {', '.join(names)}")
    pairs = [(named[0], b) for b in named[1:]] if first else list(itertools.combinations(named, 2))
    heading = Heading.of([result.conditions for each in named for result in each.results(measured)])
    comparisons: list[Comparison] = []
    left_out: list[str] = []
    for a, b in pairs:
        found, lines = _compare_pair(a, b, measured, store, heading)
        comparisons += found
        left_out += lines
        if not found:
            raise InputError(
                f"{a.name} and {b.name} have no seed of any protocol in common"
                + (f" ({'; '.join(lines)})" if lines else "")
                + "; run both with the same --seeds"
            )
    order = {conditions: i for i, conditions in enumerate(dict.fromkeys(c.conditions for c in comparisons))}
    comparisons.sort(key=lambda c: order[c.conditions])
    together, lines = _over_conditions(comparisons)
    return [*_adjusted(comparisons), *_adjusted(together)], list(dict.fromkeys([*left_out, *lines]))


def _find(name: str, results: Sequence[MethodResult]) -> _Named:
    known = {result.label for result in results}
    label, at, teacher = name.rpartition("@")
    whole = name in known or not at or label not in known
    found = _Named(name, name, None) if whole else _Named(name, label, teacher)
    if not found.results(results):
        there = sorted(known) if found.teacher is None else [
            f"{label}@{t}" for t in sorted({r.conditions.teacher for r in results if r.label == label})
        ]  # fmt: skip
        raise InputError(f"no records of {name!r} here; there are some of {', '.join(there) or 'no method'}")
    return found


def _compare_pair(
    a: _Named, b: _Named, results: Sequence[MethodResult], store: Store, heading: Heading
) -> tuple[list[Comparison], list[str]]:
    """Compare two methods under each set of conditions that either has, without correction."""

    def place(result: MethodResult) -> Conditions:
        return replace(result.conditions, teacher=teachers) if teachers else result.conditions

    teachers = f"{a.teacher}, {b.teacher}" if a.teacher and b.teacher else ""
    one_teacher = a.teacher or b.teacher
    by_place = [
        {place(r): r for r in each.results(results) if teachers or one_teacher in (None, r.conditions.teacher)}
        for each in (a, b)
    ]
    comparisons: list[Comparison] = []
    left_out: list[str] = []
    for conditions in dict.fromkeys([*by_place[0], *by_place[1]]):
        pair = [places.get(conditions) for places in by_place]
        where = heading.line(conditions)
        if pair[0] is None or pair[1] is None:
            left_out.append(f"{where}: no record of {(a if pair[0] is None else b).name}")
        elif not set(pair[0].done) & set(pair[1].done):
            left_out.append(f"{where}: {a.name} and {b.name} have finished no seed in common")
        else:
            comparisons.append(_compare(conditions, (a.name, pair[0]), (b.name, pair[1]), store))
    return comparisons, left_out


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
        DamagedArrays: If the arrays of a record are damaged, gone or of another record.
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
    if "correct_student" in names and all("queries_per_episode" in record["facts"] for record in a):
        return _within_episodes(pairs, [record["facts"]["queries_per_episode"] for record in a], names)
    if {"predicted_student", "labels"} <= names:
        differences = [_correct(x) - _correct(y) for x, y in pairs]
        if all(np.array_equal(pairs[0][0]["images"], x["images"]) for x, _ in pairs):
            return {"image": image_interval(np.mean(differences, axis=0), differences=True)}
    return {}


def heading_of(comparisons: Iterable[Comparison]) -> Heading:
    """Return the heading that tells the lines of these comparisons apart."""
    return Heading.of([c.conditions for c in comparisons if c.conditions is not None])


def sentences(comparisons: Sequence[Comparison]) -> list[str]:
    """Return one line per comparison: its conditions, then its verdict.

    The conditions are protocol and data set, with preset, teacher and student if the comparisons have several.
    """
    heading = heading_of(comparisons)
    return [f"{heading.line(c.conditions)}: {c.sentence}" for c in comparisons]


def to_rows(comparisons: Iterable[Comparison]) -> list[dict[str, Any]]:
    """Return the comparisons as plain values for JSON or a table. Accuracies are in [0, 1]."""
    rows = []
    for c in comparisons:
        fields = ("protocol", "dataset", "preset", "teacher", "backbone")
        conditions = {name: getattr(c.conditions, name, "all") for name in fields}
        rows.append({
            **conditions, "a": c.a, "b": c.b, "a_mean": c.means[0], "b_mean": c.means[1],
            "difference": c.paired.interval.mean, "ci95": c.paired.interval.half_width, "n": len(c.differences),
            "conditions": c.pooled,
            **{f"{k}_ci95": getattr(c.within.get(k), "half_width", None) for k in ("episode", "image", "class")},
            "effect": c.paired.effect, "t_p": c.paired.t_p, "adjusted_p": c.adjusted_p, "verdict": c.sentence,
        })  # fmt: skip
    return rows


def _compare(
    conditions: Conditions, a: tuple[str, MethodResult], b: tuple[str, MethodResult], store: Store
) -> Comparison:
    """Compare two results, each with its name, on their common seeds."""
    seeds = tuple(sorted(set(a[1].done) & set(b[1].done)))
    records_a, records_b = ([result.done[seed] for seed in seeds] for _, result in (a, b))
    within: dict[str, Interval] = {}
    damage = None
    try:
        within = within_run(records_a, records_b, store)
    except DamagedArrays as error:
        damage = str(error)
    values = [np.array([record["value"] for record in records], np.float64) for records in (records_a, records_b)]
    return _comparison(conditions, a[0], b[0], seeds, values, within, damage=damage)


def _comparison(
    conditions: Conditions | None, a: str, b: str, seeds: tuple[int, ...], values: Sequence[Floats],
    within: Mapping[str, Interval], *, damage: str | None = None, pooled: int = 1,
) -> Comparison:  # fmt: skip
    both = tuple(values[0].tolist()), tuple(values[1].tolist())
    return Comparison(conditions, a, b, seeds, both, paired_test(values[0] - values[1]), within, damage, pooled)


def _over_conditions(comparisons: Sequence[Comparison]) -> tuple[list[Comparison], list[str]]:
    """Compare each pair over all its conditions, with the seed as the unit.

    A seed's difference is the mean over the conditions, so conditions that share a training count it once. Only seeds
    that all conditions have are taken.

    Returns:
        The comparisons, and a line for each pair whose conditions have no seed in common.
    """
    together, left_out = [], []
    for a, b in dict.fromkeys((c.a, c.b) for c in comparisons):
        same_pair = [c for c in comparisons if (c.a, c.b) == (a, b)]
        if len(same_pair) == 1:
            continue
        seeds = sorted(set.intersection(*({*c.seeds} for c in same_pair)))
        if not seeds:
            left_out.append(f"all: {a} and {b} have no seed under all {len(same_pair)} conditions")
            continue
        values = [
            np.mean([[dict(zip(c.seeds, c.values[side], strict=True))[s] for s in seeds] for c in same_pair], axis=0)
            for side in (0, 1)
        ]
        together.append(_comparison(None, a, b, tuple(seeds), values, {}, pooled=len(same_pair)))
    return together, left_out


def _adjusted(family: Sequence[Comparison]) -> list[Comparison]:
    """Set ``adjusted_p`` by Holm's correction over the comparisons that have a p-value."""
    tested = [i for i, c in enumerate(family) if c.p is not None]
    adjusted = dict(zip(tested, holm([p for c in family if (p := c.p) is not None]), strict=True))
    return [replace(c, adjusted_p=adjusted.get(i), family=len(tested)) for i, c in enumerate(family)]


def _within_episodes(
    pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], queries: Sequence[int], names: set[str]
) -> dict[str, Interval]:
    def differences(name: str) -> list[Floats]:
        return [(x[name].astype(float) - y[name]) / count for (x, y), count in zip(pairs, queries, strict=True)]

    episodes = np.concatenate(differences("correct_student"))
    classes = np.concatenate([x["classes"] for x, _ in pairs]).astype(np.int64)
    intervals = {
        "episode": episode_interval(episodes, differences=True),
        "class": class_interval(classes, episodes, differences=True),
    }
    if "disjoint_correct_student" in names:
        by_seed = [image_interval(each, differences=True) for each in differences("disjoint_correct_student")]
        halves = [interval.half_width for interval in by_seed if interval.half_width is not None]
        half = float(np.mean(halves)) if len(halves) == len(by_seed) else None
        intervals["image"] = Interval("image", float(episodes.mean()), half, min(interval.n for interval in by_seed))
    return intervals


def _correct(arrays: Mapping[str, Any]) -> Floats:
    correct: Floats = (arrays["predicted_student"] == arrays["labels"]).astype(float)
    return correct
