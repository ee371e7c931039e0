"""The status of jobs by the records of a results folder, and the jobs that a mode selects."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeGuard

from benchmark.errors import InputError
from benchmark.experiment.request import Mode
from benchmark.records.run_label import parse_label
from benchmark.records.schema import Record, key_of
from benchmark.records.store import Store
from benchmark.sweep.jobs import Job

State = Literal["done", "running", "failed", "missing"]
STATES: tuple[State, ...] = ("done", "running", "failed", "missing")

_SELECTED: dict[Mode, tuple[State, ...]] = {
    "missing": ("missing", "failed", "running"),
    "retry-failed": ("failed",),
    "force": ("missing", "failed", "running", "done"),
    "only-cache": (),
}
"""The states that each mode selects. A running job is selected because the sweep waits for its record."""


@dataclass(frozen=True)
class SweepStatus:
    """The status of jobs. All mappings are by the key of the job."""

    states: Mapping[str, State]
    errors: Mapping[str, str]
    """The error of every failed job."""
    seconds: Mapping[str, float]
    """Expected seconds of every job that is not done. A job without a similar earlier record is left out."""
    teacher_seconds: Mapping[str, float] = field(default_factory=dict)
    """Median seconds of training a teacher, by protocol; a protocol without a record is left out."""

    def count(self, jobs: Iterable[Job]) -> Counter[State]:
        """Count the jobs in each state."""
        return Counter(self.states[job.key] for job in jobs)


def read_status(jobs: Sequence[Job], store: Store) -> SweepStatus:
    """Read all records once and return the status of the jobs. A damaged record counts as failed."""
    records: dict[str, Record | InputError] = {}
    if store.root.is_dir():
        records = {key_of(path.name): record for path, record in store.records()}
    states: dict[str, State] = {}
    errors: dict[str, str] = {}
    for job in jobs:
        record = records.get(job.key[:12])
        if _is_done(record) and record["key"] == job.key:
            states[job.key] = "done"
        elif store.locks.is_locked(job.key):
            states[job.key] = "running"
        elif record is None:
            states[job.key] = "missing"
        else:
            states[job.key] = "failed"
            errors[job.key] = str(record if isinstance(record, InputError) else record.get("error"))
    unfinished = [job for job in jobs if states[job.key] != "done"]
    done = [record for record in records.values() if not isinstance(record, InputError) and _is_done(record)]
    return SweepStatus(states, errors, _expected_seconds(unfinished, done), _teacher_seconds(done))


def select_jobs(jobs: Sequence[Job], status: SweepStatus, mode: Mode) -> list[Job]:
    """Return the jobs that a mode runs."""
    return [job for job in jobs if status.states[job.key] in _SELECTED[mode]]


def _is_done(record: Record | InputError | None) -> TypeGuard[Record]:
    return isinstance(record, dict) and record["status"] == "done"


def _expected_seconds(jobs: Iterable[Job], records: Iterable[Record]) -> dict[str, float]:
    """Return the median seconds of similar records by job key; a job without any is left out.

    Similar records have the protocol, data set and time-relevant settings of the job. Among them, those of the same
    method count, or those of all methods if there is none.
    """
    seconds: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for record in records:
        conditions = str(record["protocol"]), str(record["dataset"]), _cost_label(str(record["preset"]))
        for group in (conditions, (*conditions, str(record["method"]))):
            seconds[group].append(float(record["seconds"]))
    expected = {}
    for job in jobs:
        conditions = job.request.protocol, job.dataset, _cost_label(job.preset)
        similar = seconds.get((*conditions, job.request.method)) or seconds.get(conditions)
        if similar:
            expected[job.key] = statistics.median(similar)
    return expected


def _teacher_seconds(records: Iterable[Record]) -> dict[str, float]:
    seconds: dict[str, list[float]] = defaultdict(list)
    for record in records:
        trained = record.get("teacher_facts", {}).get("seconds")
        if isinstance(trained, (int, float)):
            seconds[str(record["protocol"])].append(float(trained))
    return {protocol: statistics.median(values) for protocol, values in seconds.items()}


def _cost_label(label: str) -> str:
    """Drop the settings of a run label that cost no time: teacher seed, learning rate, the method's own settings."""
    preset, changed = parse_label(label)
    free = "teacher.seed=", "training.lr=", "method."
    return "+".join([preset, *(setting for setting in changed if not setting.startswith(free))])
