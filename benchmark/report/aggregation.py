"""Grouping of records: the seeds of a method form a result, the methods under equal conditions form a group."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from benchmark.experiment.labels import label_of
from benchmark.records.run_label import NO_TEACHER, format_label, networks, parse_label
from benchmark.records.schema import Record, apart
from benchmark.spec import Teacher
from benchmark.statistics import Interval, seed_interval


@dataclass(frozen=True, order=True)
class Conditions:
    """The conditions that methods must share to be compared."""

    protocol: str
    dataset: str
    preset: str
    """The preset with the settings that differ from it, without settings of the method."""
    teacher: str
    """The teacher's backbone; ``none`` if no run reads a teacher."""
    backbone: str
    """The student's backbone."""
    provenance: str

    @property
    def networks(self) -> str:
        """Student and teacher in words."""
        return networks(self.backbone, self.teacher)


@dataclass(frozen=True)
class Heading:
    """Which conditions a line has to name so that no other line is like it."""

    fields: tuple[str, ...]

    @classmethod
    def of(cls, conditions: Iterable[Conditions]) -> Heading:
        """Protocol and data set, and whatever else differs among the conditions."""
        known = list(conditions)
        differing = (name for name in ("preset", "teacher", "backbone") if len({getattr(c, name) for c in known}) > 1)
        return cls(("protocol", "dataset", *differing))

    def line(self, conditions: Conditions | None) -> str:
        """The conditions in words; ``all`` for None."""
        if conditions is None:
            return "all"
        words = {"teacher": "teacher {}", "backbone": "student {}"}
        return " ".join(words.get(name, "{}").format(getattr(conditions, name)) for name in self.fields)


@dataclass(frozen=True)
class MethodResult:
    """One method under one set of conditions, with one record per seed."""

    conditions: Conditions
    preset: str
    """The preset as in the records, with all settings that differ from it."""
    method: str
    runs: Mapping[int, Record] = field(repr=False)
    """Finished and failed records by seed."""

    @property
    def label(self) -> str:
        """The method's name, followed by the method settings that differ from the preset."""
        changed = parse_label(self.preset)[1]
        settings = [setting.removeprefix("method.") for setting in changed if setting.startswith("method.")]
        return f"{self.method} ({', '.join(settings)})" if settings else self.method

    @property
    def done(self) -> dict[int, Record]:
        """The finished records by seed, in ascending order."""
        return {seed: run for seed, run in sorted(self.runs.items()) if run["status"] == "done"}

    @property
    def metric(self) -> str:
        """The name of the measured quantity; empty if no run has finished."""
        return next((run["metric"] for run in self.done.values()), "")

    def values(self, reference: str | None = None) -> npt.NDArray[np.float64]:
        """Return one value in [0, 1] per finished seed, in ascending order of seeds.

        Args:
            reference: Name of a reference in the records. None selects the method's own value.
        """
        runs = self.done.values()
        return np.array([(run if reference is None else run["references"][reference])["value"] for run in runs])

    def interval(self, reference: str | None = None) -> Interval:
        """Return the mean and the Student t interval over the finished seeds.

        Args:
            reference: Name of a reference in the records. None selects the method's own value.

        Raises:
            ValueError: If no seed has finished.
        """
        return seed_interval(self.values(reference))


@dataclass(frozen=True)
class ComparisonGroup:
    """All methods measured under equal conditions."""

    conditions: Conditions
    results: tuple[MethodResult, ...]

    @property
    def seeds(self) -> frozenset[int]:
        """All seeds that at least one method of the group was run with."""
        return frozenset().union(*(result.runs for result in self.results))

    @property
    def shared_seeds(self) -> list[int]:
        """The seeds that every method has finished, in ascending order. Methods that finished none are left aside."""
        done = [set(result.done) for result in self.results if result.done]
        return sorted(set.intersection(*done)) if done else []

    @property
    def shared_means(self) -> dict[str, float]:
        """The mean over the shared seeds by label of every method that has finished one; ranks are by this mean."""
        seeds = self.shared_seeds
        return {
            result.label: float(np.mean([result.done[seed]["value"] for seed in seeds]))
            for result in self.results
            if seeds and result.done
        }

    def missing(self, result: MethodResult) -> list[int]:
        """Return the seeds of the group that the method has not finished, in ascending order."""
        return sorted(self.seeds - set(result.done))

    @property
    def note(self) -> str:
        """Which seeds the ranks are over, in words, where methods have finished different ones; else empty."""
        if not any(self.missing(result) for result in self.results if result.done):
            return ""
        seeds = self.shared_seeds
        if not seeds:
            return "not ranked: no seed is finished by every method"
        return f"ranks over seed{'s' * (len(seeds) > 1)} {format_seeds(seeds)}, which every method has finished"


def format_seeds(seeds: Sequence[int]) -> str:
    """Format ascending seeds as ``--seeds`` takes them, for example ``0-4,7``."""
    parts = []
    for _, pairs in itertools.groupby(enumerate(seeds), lambda pair: pair[1] - pair[0]):
        span = [seed for _, seed in pairs]
        parts.append(f"{span[0]}-{span[-1]}" if len(span) > 1 else f"{span[0]}")
    return ",".join(parts)


def group_by_method(records: Iterable[Record]) -> list[MethodResult]:
    """Group records by conditions, preset and method, in sorted order.

    If a seed was measured more than once, the latest finished record counts. What a result says of settings follows
    from the configs of its records, not from what they are called.

    A record whose teacher seed equals both the default and the run seed belongs to two results: that of the default
    and that of ``teacher.seed=run``. It is stored once, under the label that was requested first, and counts in both.

    Runs that read no teacher, as those of ``ce``, count under every teacher that other runs read.
    """
    runs_by_key: dict[tuple[Conditions, str, str], dict[int, Record]] = defaultdict(dict)
    ordered = sorted(records, key=lambda r: (r["status"] == "done", r.get("started", ""), r["key"]))
    labels = [label_of(record) for record in ordered]
    for record, label in zip(ordered, labels, strict=True):
        runs_by_key[_group_key(record, label)][record["seed"]] = record
    for record, own in zip(ordered, labels, strict=True):
        for label in _equivalent_labels(record, own):
            key = _group_key(record, label)
            if key in runs_by_key:
                runs_by_key[key].setdefault(record["seed"], record)
    return _under_every_teacher([MethodResult(*key, runs) for key, runs in runs_by_key.items()])


def _under_every_teacher(results: Sequence[MethodResult]) -> list[MethodResult]:
    """Count the runs that read no teacher under every teacher; they stay alone where no other run reads one.

    What was measured of the teacher beside such a run does not hold under others.
    """
    guided = {result.conditions for result in results if result.conditions.teacher != NO_TEACHER}
    joined: dict[tuple[Conditions, str, str], MethodResult] = {}
    for result in sorted(results, key=lambda result: result.conditions in guided):
        of_method = [setting for setting in parse_label(result.preset)[1] if setting.startswith("method.")]
        alike = [] if result.conditions in guided else [
            conditions for conditions in guided if _without_teacher(conditions) == _without_teacher(result.conditions)
        ]  # fmt: skip
        runs = dict(result.runs)
        if result.conditions.teacher == NO_TEACHER:
            own = next(iter(runs.values())).get("beside")
            runs = {s: apart(run) if alike or run.get("beside") != own else run for s, run in runs.items()}
        for conditions in alike or [result.conditions]:
            name, changed = parse_label(conditions.preset)
            key = conditions, format_label(name, [*changed, *of_method]), result.method
            earlier = joined[key].runs if key in joined else {}
            joined[key] = MethodResult(*key, {**earlier, **runs})
    return [joined[key] for key in sorted(joined)]


def shows_teacher(record: Record) -> bool:
    """Return whether the arrays of a record that are of its teacher hold where the record is counted."""
    return record.get("teacher_facts") != {}


def _without_teacher(conditions: Conditions) -> Conditions:
    """Return conditions that are equal where only the teacher and its settings differ."""
    name, changed = parse_label(conditions.preset)
    preset = format_label(name, [setting for setting in changed if not setting.startswith("teacher.")])
    return replace(conditions, preset=preset, teacher="")


def _group_key(record: Record, preset: str) -> tuple[Conditions, str, str]:
    """Return conditions, preset and method: the key of a record's result, with ``preset`` as its label."""
    name, changed = parse_label(preset)
    conditions = Conditions(
        str(record["protocol"]),
        str(record["dataset"]),
        "+".join([name, *(setting for setting in changed if not setting.startswith("method."))]),
        str(record["teacher"]),
        str(record["backbone"]),
        str(record["provenance"]),
    )
    return conditions, preset, str(record["method"])


def _equivalent_labels(record: Record, own: str) -> Iterator[str]:
    """Yield the labels of the same settings beside ``own``, which name the teacher's seed differently."""
    seed = record.get("config", {}).get("teacher", {}).get("seed")
    if seed is None:
        return
    name, changed = parse_label(own)
    others = [setting for setting in changed if not setting.startswith("teacher.seed=")]
    seed_settings: list[list[str]] = [[f"teacher.seed={seed}"]] if seed != Teacher.seed else [[]]
    if seed == record["seed"]:
        seed_settings.append(["teacher.seed=run"])
    for seed_setting in seed_settings:
        label = "+".join([name, *sorted([*others, *seed_setting])])
        if label != own:
            yield label


def group_by_conditions(results: Iterable[MethodResult]) -> list[ComparisonGroup]:
    """Group results by conditions, in the order in which the conditions first appear."""
    by_conditions: dict[Conditions, list[MethodResult]] = defaultdict(list)
    for result in results:
        by_conditions[result.conditions].append(result)
    return [ComparisonGroup(conditions, tuple(members)) for conditions, members in by_conditions.items()]
