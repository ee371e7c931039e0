"""Grouping of records: the seeds of a method form a result, the methods under equal conditions form a group."""

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
    """The conditions that methods must share to be compared."""

    protocol: str
    dataset: str
    preset: str
    """The preset with the settings that differ from it, without settings of the method."""
    teacher: str
    """The teacher's backbone."""
    backbone: str
    """The student's backbone."""
    provenance: str


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

    def missing(self, result: MethodResult) -> list[int]:
        """Return the seeds of the group that the method has not finished, in ascending order."""
        return sorted(self.seeds - set(result.done))

    @property
    def complete(self) -> list[MethodResult]:
        """The methods that have finished every seed of the group. Only these are ranked."""
        return [result for result in self.results if not self.missing(result)]


def group_by_method(records: Iterable[Record]) -> list[MethodResult]:
    """Group records by conditions, preset and method, in sorted order.

    If a seed was measured more than once, the latest finished record counts.

    A record whose teacher seed equals both the default and the run seed belongs to two results: that of the default
    and that of ``teacher.seed=run``. It is stored once, under the label that was requested first, and counts in both.
    """
    runs_by_key: dict[tuple[Conditions, str, str], dict[int, Record]] = defaultdict(dict)
    ordered = sorted(records, key=lambda r: (r["status"] == "done", r.get("started", ""), r["key"]))
    for record in ordered:
        runs_by_key[_group_key(record, str(record["preset"]))][record["seed"]] = record
    for record in ordered:
        for label in _equivalent_labels(record):
            key = _group_key(record, label)
            if key in runs_by_key:
                runs_by_key[key].setdefault(record["seed"], record)
    return [MethodResult(*key, runs) for key, runs in sorted(runs_by_key.items(), key=lambda item: item[0])]


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


def _equivalent_labels(record: Record) -> Iterator[str]:
    """Yield the other labels of the same settings, which name the teacher's seed differently."""
    seed = record.get("config", {}).get("teacher", {}).get("seed")
    if seed is None:
        return
    name, changed = parse_label(str(record["preset"]))
    others = [setting for setting in changed if not setting.startswith("teacher.seed=")]
    seed_settings: list[list[str]] = [[f"teacher.seed={seed}"]] if seed != Teacher.seed else [[]]
    if seed == record["seed"]:
        seed_settings.append(["teacher.seed=run"])
    for seed_setting in seed_settings:
        label = "+".join([name, *sorted([*others, *seed_setting])])
        if label != record["preset"]:
            yield label


def group_by_conditions(results: Iterable[MethodResult]) -> list[ComparisonGroup]:
    """Group results by conditions, in the order in which the conditions first appear."""
    by_conditions: dict[Conditions, list[MethodResult]] = defaultdict(list)
    for result in results:
        by_conditions[result.conditions].append(result)
    return [ComparisonGroup(conditions, tuple(members)) for conditions, members in by_conditions.items()]
