"""Records put in order: the seeds of a method make a result, the methods under equal conditions a group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from benchmark.records.run_label import parse_label
from benchmark.records.schema import Record
from benchmark.spec import Teacher
from benchmark.statistics import Interval, seed_interval


@dataclass(frozen=True, order=True)
class Conditions:
    """What methods must have in common to be compared. ``preset`` is without the methods' own settings."""

    protocol: str
    dataset: str
    preset: str
    teacher: str
    backbone: str
    provenance: str


@dataclass(frozen=True)
class MethodResult:
    """One method under one set of conditions: the record that counts for each of its seeds.

    preset: as in the records, with the settings that differ from it; runs: by seed, finished or failed.
    """

    conditions: Conditions
    preset: str
    method: str
    runs: Mapping[int, Record] = field(repr=False)

    @property
    def label(self) -> str:
        """The method's name, with its own settings where they differ from the preset's."""
        changed = parse_label(self.preset)[1]
        own = [setting.removeprefix("method.") for setting in changed if setting.startswith("method.")]
        return f"{self.method} ({', '.join(own)})" if own else self.method

    @property
    def done(self) -> dict[int, Record]:
        """The finished records by seed, in order of seeds."""
        return {seed: run for seed, run in sorted(self.runs.items()) if run["status"] == "done"}

    @property
    def metric(self) -> str:
        """The name of what was measured; empty where no run has finished."""
        return next((run["metric"] for run in self.done.values()), "")

    def values(self, reference: str | None = None) -> npt.NDArray[np.float64]:
        """What was measured, or a reference that stands beside it: one value in [0, 1] per finished seed."""
        runs = self.done.values()
        return np.array([(run if reference is None else run["references"][reference])["value"] for run in runs])

    def interval(self, reference: str | None = None) -> Interval:
        """Mean and Student t interval over the finished seeds, of which there must be one at the least."""
        return seed_interval(self.values(reference))


@dataclass(frozen=True)
class ComparisonGroup:
    """The methods measured under equal conditions."""

    conditions: Conditions
    results: tuple[MethodResult, ...]

    @property
    def seeds(self) -> frozenset[int]:
        """Every seed that any method of the group was run with."""
        return frozenset().union(*(result.runs for result in self.results))

    def missing(self, result: MethodResult) -> list[int]:
        """The seeds of the group that this method has not finished."""
        return sorted(self.seeds - set(result.done))

    @property
    def complete(self) -> list[MethodResult]:
        """The methods that have finished every seed of the group: those that may be ranked."""
        return [result for result in self.results if not self.missing(result)]


def group_by_method(records: Iterable[Record]) -> list[MethodResult]:
    """The records by result, sorted. Where a seed was measured more than once, the latest finished record counts.

    A run whose teacher's seed is the default one and its own stands in the result of the default and in that of
    ``teacher.seed=run``, where both are there: it is one run, and its record has the label it was first asked for by.
    """
    found: dict[tuple[Conditions, str, str], dict[int, Record]] = defaultdict(dict)
    ordered = sorted(records, key=lambda r: (r["status"] == "done", r.get("started", ""), r["key"]))
    for record in ordered:
        found[_group_key(record, str(record["preset"]))][record["seed"]] = record
    for record in ordered:
        for label in _other_labels(record):
            place = _group_key(record, label)
            if place in found:
                found[place].setdefault(record["seed"], record)
    return [MethodResult(*key, runs) for key, runs in sorted(found.items(), key=lambda item: item[0])]


def _group_key(record: Record, preset: str) -> tuple[Conditions, str, str]:
    """The result of a record under a label of its preset."""
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


def _other_labels(record: Record) -> Iterator[str]:
    """What else a run's preset may be called, by how the teacher's seed is named."""
    seed = record.get("config", {}).get("teacher", {}).get("seed")
    if seed is None:
        return
    name, changed = parse_label(str(record["preset"]))
    others = [setting for setting in changed if not setting.startswith("teacher.seed=")]
    ways: list[list[str]] = [[f"teacher.seed={seed}"]] if seed != Teacher.seed else [[]]
    if seed == record["seed"]:
        ways.append(["teacher.seed=run"])
    for way in ways:
        label = "+".join([name, *sorted([*others, *way])])
        if label != record["preset"]:
            yield label


def group_by_conditions(results: Iterable[MethodResult]) -> list[ComparisonGroup]:
    """The results by conditions, in their order."""
    found: dict[Conditions, list[MethodResult]] = defaultdict(list)
    for result in results:
        found[result.conditions].append(result)
    return [ComparisonGroup(conditions, tuple(members)) for conditions, members in found.items()]
