"""One run: train, evaluate, and return the record."""

from __future__ import annotations

import datetime
import time
from typing import TYPE_CHECKING, Any

from benchmark.data import ImageSet
from benchmark.errors import InputError
from benchmark.experiment.planning import Plan
from benchmark.methods.source import source_sha256
from benchmark.records.run_label import NO_TEACHER
from benchmark.records.schema import SCHEMA, Record
from benchmark.spec import RunSpec
from benchmark.system.containment import kept_state
from benchmark.system.progress import Progress
from protocols import Result, Score

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from benchmark.training import Checkpoints, Device, TeacherStore


def measure(
    plan: Plan,
    spec: RunSpec,
    teachers: TeacherStore,
    device: Device,
    progress: Progress,
    checkpoints: Checkpoints | None = None,
) -> tuple[Record, dict[str, npt.NDArray[np.generic]]]:
    """Carry out one run.

    Args:
        plan: the plan of the run.
        spec: the run, ``plan.spec(seed)``.
        teachers: trained teachers, to which the run adds its own.
        device: where to train.
        progress: shows the work.
        checkpoints: where trainings are kept and resumed from; None keeps none.

    Returns:
        The record and its arrays. A run that fails with an error of its own has status ``failed`` and no arrays.

    Raises:
        InputError: the settings do not fit the networks or the data.
    """
    from benchmark.system.environment import peak_memory_mb

    started = time.perf_counter()
    record = {**new_record(spec, plan.data, device), "method_sha256": source_sha256(plan.method)}
    with kept_state() as changed:
        measured = _measure(plan, spec, teachers, device, progress, checkpoints)
    record["seconds"] = time.perf_counter() - started
    if changed:
        error = f"it changes what other runs depend on, which was put back: {', '.join(changed[:5])}"
        error += f" ({measured})" if isinstance(measured, str) else ""
        return record | {"error": error}, {}
    if isinstance(measured, str):
        return record | {"error": measured}, {}
    record = finish_record(record, measured) | {"peak_memory_mb": peak_memory_mb(device.torch)}
    return record, dict(measured.arrays)


def _measure(
    plan: Plan,
    spec: RunSpec,
    teachers: TeacherStore,
    device: Device,
    progress: Progress,
    checkpoints: Checkpoints | None,
) -> Result | str:
    """Return the result of a run, or the error that it fails with."""
    import torch

    from benchmark.training import Trainer

    # as use_deterministic_algorithms, which imports the whole compiler for it
    torch.set_deterministic_debug_mode("error" if device.torch.type == "cpu" else "warn")
    try:
        trainer = Trainer(spec, teachers, device, progress, checkpoints)
        plan.validate_networks(trainer)
        return plan.protocol.run(plan.data, trainer, spec.seed)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        return f"{type(error).__name__}: {error}".split("\n", 1)[0]
    finally:
        torch.set_deterministic_debug_mode("default")


def new_record(spec: RunSpec, data: ImageSet, device: Device) -> Record:
    """Return the record of a run that has no result yet: status ``failed``, identity, config and environment."""
    from benchmark.system.environment import describe_environment

    return {
        "schema": SCHEMA,
        "key": spec.key,
        "status": "failed",
        "provenance": "measured",
        "protocol": spec.protocol,
        "dataset": spec.dataset,
        "preset": spec.preset,
        "method": spec.method,
        "backbone": spec.student.backbone,
        "teacher": spec.teacher.backbone if spec.reads_teacher else NO_TEACHER,
        **({} if spec.reads_teacher else {"beside": spec.teacher_config()}),
        "seed": spec.seed,
        "data": data.describe(),
        "config": spec.config(),
        "environment": describe_environment(device.torch, device.precision, device.compiled),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def finish_record(record: Record, result: Result) -> Record:
    """Return the record with the result: status ``done``, score, references, facts and history."""
    student, teacher = result.student.metadata, result.teacher.metadata
    return {
        **record,
        "status": "done",
        "metric": result.metric,
        **_score(result.score),
        "n": result.n,
        "references": {name: _score(score) for name, score in result.references.items()},
        "student_facts": {name: value for name, value in student.items() if name != "history"},
        "teacher_facts": teacher | (result.teacher.embedding_cache.facts() if result.teacher.embedding_cache else {}),
        "facts": dict(result.facts),
        "history": student["history"],
    }


def _score(score: Score) -> dict[str, Any]:
    return {
        "value": score.value,
        "intervals": {i.kind: {"half_width": i.half_width, "n": i.n} for i in score.intervals},
    }
