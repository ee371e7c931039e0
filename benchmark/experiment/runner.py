"""The runs of a plan: take a record from the store, or lock the run, measure it and save the record."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import InputError
from benchmark.experiment.measurement import measure
from benchmark.experiment.planning import Plan
from benchmark.experiment.request import Mode
from benchmark.methods import Method
from benchmark.methods.source import source_sha256
from benchmark.records.schema import DamagedRecord, Record
from benchmark.records.store import Store
from benchmark.spec import RunSpec
from benchmark.system.files import set_aside
from benchmark.system.progress import Progress

if TYPE_CHECKING:
    from benchmark.training import Checkpoints, Device, TeacherOutputCache


@dataclass(frozen=True)
class RunContext:
    """Where and how runs are carried out; none of it changes a result."""

    store: Store
    data_root: Path
    """The folder of data sets, teachers and checkpoints."""
    device: Device
    progress: Progress
    mode: Mode = "missing"
    checkpoint_every: float = 60.0
    """Seconds between two checkpoints of a training."""
    teacher_cache: TeacherOutputCache | None = None
    """Teacher outputs of earlier runs of this process, for reuse."""


def run(plan: Plan, seeds: Iterable[int], context: RunContext) -> list[Record]:
    """Return the records of all seeds, taken from the store or measured, as the mode says.

    Each record is saved as soon as it is measured. A repeated call resumes an interrupted training.

    Raises:
        InputError: the store cannot be written, or the mode forbids to measure a run that has no record.
    """
    if context.mode != "only-cache":
        context.store.check_writable()
    records = (run_seed(plan, seed, context) for seed in seeds)
    return [record for record in records if record is not None]


def run_seed(plan: Plan, seed: int, context: RunContext, *, wait: bool = True) -> Record | None:
    """Return the record of one seed, taken from the store or measured.

    Only one process runs a given spec at a time. A damaged record is renamed, reported and measured again.

    Args:
        plan: the plan.
        seed: the seed.
        context: where and how to run.
        wait: whether to wait if another process is running the same spec.

    Returns:
        The record, or None if another process is running the spec and ``wait`` is False.
    """
    from benchmark.training import Checkpoints

    spec, store, progress = plan.spec(seed), context.store, context.progress
    checkpoints = Checkpoints(context.data_root / "checkpoints", context.device, progress, context.checkpoint_every)
    record = _find_record(spec, context, locked=False)
    if record is None:
        lock = store.locks.try_acquire(spec.key)
        if lock is None and not wait:
            return None
        if lock is None:
            progress.say(f"seed {seed}: another process is running it; waiting for it")
            lock = store.locks.acquire(spec.key)
        with lock:
            record = _find_record(spec, context, locked=True)  # another process may have finished it
            if record is None:
                return _measure_and_save(plan, spec, context, checkpoints)
    checkpoints.clear(spec.key)  # of a process that was killed after it saved the record
    progress.say(f"seed {seed}: already measured, from {store.root}")
    if source_changed(record, plan.method):
        progress.say(
            f"seed {seed}: the source file of method {spec.method} has changed since; if that changes results, raise "
            "its version, or measure again with --mode force"
        )
    return record


def source_changed(record: Record, method: type[Method]) -> bool:
    """Whether the method's source file is known to differ from the one that a record was measured with."""
    recorded, today = record.get("method_sha256"), source_sha256(method)
    return None not in (recorded, today) and recorded != today


def _measure_and_save(plan: Plan, spec: RunSpec, context: RunContext, checkpoints: Checkpoints) -> Record:
    from benchmark.training import TeacherStore

    teachers = TeacherStore(context.data_root / "teachers", context.progress, context.teacher_cache)
    record, arrays = measure(plan, spec, teachers, context.device, context.progress, checkpoints)
    path = context.store.save(record, arrays)
    checkpoints.clear(spec.key)
    failed = "" if record["status"] == "done" else "failed, "
    context.progress.say(f"seed {spec.seed}: {failed}saved {path}")
    return context.store.find(spec.key) or record  # with the name of its arrays, as every later call returns it


def _find_record(spec: RunSpec, context: RunContext, *, locked: bool) -> Record | None:
    """Return the finished record of a run, or None if the run must be measured.

    Args:
        spec: the run.
        context: where and how to run.
        locked: whether this process holds the lock of the run; only then a damaged record is renamed.
    """
    store, mode = context.store, context.mode
    try:
        record = None if mode == "force" else store.find(spec.key)
    except DamagedRecord as error:
        if mode == "only-cache":
            raise
        if locked:
            context.progress.say(f"{error}; kept as {set_aside(error.path).name}")
        return None
    if record is not None and record["status"] == "done":
        return record
    if mode == "only-cache" or (mode == "retry-failed" and record is None):
        wanted = "finished" if mode == "only-cache" else "failed"
        raise InputError(
            f"{store.root} has no {wanted} record of {spec.protocol} {spec.dataset} {spec.method} seed {spec.seed} "
            f"(--mode {mode})"
        )
    return None
