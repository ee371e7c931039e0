"""Two or more methods side by side: differences on common seeds and episodes, tests, and a sentence."""

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
    """What the common seeds of two methods say about ``a - b``.

    conditions: where, or None for all of them together; differences: one per seed (and conditions); within: intervals
    of the difference between these trained networks on common episodes or images, by kind; adjusted_p: ``p`` with
    Holm's correction over the comparisons made together.
    """

    conditions: Conditions | None
    a: str
    b: str
    means: tuple[float, float]
    differences: tuple[float, ...]
    paired: Paired
    within: Mapping[str, Interval]
    adjusted_p: float | None = None

    @property
    def test(self) -> str:
        """The test that decides: paired t within one set of conditions, signed ranks over several."""
        return "paired t" if self.conditions is not None or len(self.differences) < 6 else "signed ranks"

    @property
    def p(self) -> float | None:
        """The p-value of ``test``, None where there is none."""
        return self.paired.t_p if self.test == "paired t" else self.paired.wilcoxon_p

    @property
    def differs(self) -> bool:
        """Whether the two are told apart."""
        return self.adjusted_p is not None and self.adjusted_p < ALPHA

    @property
    def sentence(self) -> str:
        """What can be said, in points of a percent."""
        mean, half = self.paired.interval.mean, self.paired.interval.half_width
        n = len(self.differences)
        count = f"{n} seed{'s' * (n > 1)}" if self.conditions is not None else f"{n} pairs of conditions and seed"
        if half is None:
            return f"cannot tell {self.a} from {self.b}: {100 * mean:+.1f} points in one seed; run more with --seeds"
        better, worse, sign = (self.a, self.b, 1) if mean >= 0 else (self.b, self.a, -1)
        low, high = (100 * (sign * mean + side * half) for side in (-1, 1))
        facts = f"95 % CI {low:.1f} to {high:.1f}, {count}; {self._told_p}"
        if self.differs:
            return f"{better} is better than {worse} by {100 * abs(mean):.1f} points, {facts}"
        return f"cannot tell {self.a} from {self.b}: {better} ahead by {100 * abs(mean):.1f} points, {facts}"

    @property
    def _told_p(self) -> str:
        if self.adjusted_p is None:
            return "no test: the differences of all seeds are equal"
        shown = "< .001" if self.adjusted_p < 0.001 else "= " + f"{self.adjusted_p:.3f}".removeprefix("0")
        return f"{self.test}, Holm-adjusted p {shown}"


def compare(
    results: Iterable[MethodResult], names: Sequence[str], store: Store, *, first: bool = False
) -> tuple[list[Comparison], list[str]]:
    """Every pair of the methods named, within each set of conditions and over all of them; and what was left out.

    results: of records in ``store``; names: their labels, as ``refilled`` or ``refilled (margin=0.1)``; first: only
    the first of them with each of the others. Only measured values are compared, on the seeds that both have. A name
    that no result has, or a pair without common seeds anywhere, raises ``InputError``, as do records of one seed that
    were not judged on the same episodes or images.
    """
    groups = group_by_conditions(result for result in results if result.conditions.provenance == "measured")
    known = sorted({result.label for group in groups for result in group.results})
    for name in names:
        if name not in known:
            raise InputError(f"no records of {name!r} here; there are some of {', '.join(known) or 'no method'}")
    if len(set(names)) != len(names) or len(names) < 2:
        raise InputError(f"compare takes two different methods or more, got {', '.join(names)}")
    wanted = [(names[0], b) for b in names[1:]] if first else list(itertools.combinations(names, 2))
    found: list[Comparison] = []
    left_out: list[str] = []
    for group in groups:
        by_label = {result.label: result for result in group.results}
        for a, b in wanted:
            if a not in by_label and b not in by_label:
                continue
            where = f"{group.conditions.protocol} {group.conditions.dataset}"
            lacking = [name for name in (a, b) if name not in by_label]
            if lacking:
                left_out.append(f"{where}: no record of {lacking[0]}")
            elif not set(by_label[a].done) & set(by_label[b].done):
                left_out.append(f"{where}: {a} and {b} have finished no seed in common")
            else:
                found.append(_compare(by_label[a], by_label[b], store))
    for a, b in wanted:
        if not any((c.a, c.b) == (a, b) for c in found):
            raise InputError(f"{a} and {b} have no seed of any protocol in common; run both with the same --seeds")
    return [*_adjusted(found), *_adjusted(_over_conditions(found))], list(dict.fromkeys(left_out))


def within_run(a: Sequence[Record], b: Sequence[Record], store: Store) -> dict[str, Interval]:
    """Intervals of a's accuracy minus b's on what both were judged on; records in pairs of one seed each.

    ``episode``: all episodes of all seeds. ``class``: jackknife over them. ``image``: over images judged, each with its
    mean over seeds; for episodes without common images, the mean half-width over seeds, as these share their images.
    Empty where the records keep no such scores.
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
        right = [(_right(x) - _right(y)) for x, y in pairs]
        if all(np.array_equal(pairs[0][0]["images"], x["images"]) for x, _ in pairs):
            return {"image": image_interval(np.mean(right, axis=0))}
    return {}


def sentences(comparisons: Sequence[Comparison]) -> list[str]:
    """What can be said of each, behind where: protocol, data set and, where there are several, the preset."""
    presets = {c.conditions.preset for c in comparisons if c.conditions is not None}
    lines = []
    for c in comparisons:
        where = "all"
        if c.conditions is not None:
            where = f"{c.conditions.protocol} {c.conditions.dataset}"
            where += f" {c.conditions.preset}" if len(presets) > 1 else ""
        lines.append(f"{where}: {c.sentence}")
    return lines


def to_rows(comparisons: Iterable[Comparison]) -> list[dict[str, Any]]:
    """The comparisons as plain values, fractions of 1: for JSON or a table."""
    rows = []
    for c in comparisons:
        where = {name: getattr(c.conditions, name, "all") for name in ("protocol", "dataset", "preset", "backbone")}
        rows.append({
            **where, "a": c.a, "b": c.b, "a_mean": c.means[0], "b_mean": c.means[1],
            "difference": c.paired.interval.mean, "ci95": c.paired.interval.half_width, "n": len(c.differences),
            **{f"{k}_ci95": getattr(c.within.get(k), "half_width", None) for k in ("episode", "image", "class")},
            "effect": c.paired.effect, "t_p": c.paired.t_p, "wilcoxon_p": c.paired.wilcoxon_p,
            "adjusted_p": c.adjusted_p, "verdict": c.sentence,
        })  # fmt: skip
    return rows


def _compare(a: MethodResult, b: MethodResult, store: Store) -> Comparison:
    seeds = sorted(set(a.done) & set(b.done))
    mine, other = ([result.done[seed] for seed in seeds] for result in (a, b))
    values = [np.array([record["value"] for record in records]) for records in (mine, other)]
    differences = values[0] - values[1]
    return Comparison(
        a.conditions,
        a.label,
        b.label,
        (float(values[0].mean()), float(values[1].mean())),
        tuple(differences.tolist()),
        paired_test(differences),
        within_run(mine, other, store),
    )


def _over_conditions(found: Sequence[Comparison]) -> list[Comparison]:
    together = []
    for a, b in dict.fromkeys((c.a, c.b) for c in found):
        own = [c for c in found if (c.a, c.b) == (a, b)]
        if len(own) > 1:
            differences = tuple(d for c in own for d in c.differences)
            weights = [len(c.differences) for c in own]
            means = tuple(float(np.average([c.means[i] for c in own], weights=weights)) for i in (0, 1))
            together.append(Comparison(None, a, b, (means[0], means[1]), differences, paired_test(differences), {}))
    return together


def _adjusted(family: Sequence[Comparison]) -> list[Comparison]:
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
        seeds = [image_interval(apart) for apart in differences("disjoint_correct_student")]
        halves = [interval.half_width for interval in seeds if interval.half_width is not None]
        half = float(np.mean(halves)) if len(halves) == len(seeds) else None
        intervals["image"] = Interval("image", float(episodes.mean()), half, min(interval.n for interval in seeds))
    return intervals


def _right(arrays: Mapping[str, Any]) -> Floats:
    right: Floats = (arrays["predicted_student"] == arrays["labels"]).astype(float)
    return right
