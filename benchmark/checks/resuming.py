"""Compares an uninterrupted run with the same run interrupted and resumed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmark.checks.check import Candidate, require
from benchmark.experiment.measurement import measure
from benchmark.experiment.planning import Plan, make_plan, transfer_context
from benchmark.experiment.request import Request
from benchmark.records.schema import determined
from benchmark.system.progress import Silent
from benchmark.training import Checkpoints, TeacherStore, select_device
from benchmark.training.checkpoints import Checkpoint, Snapshot

SMOKE: Mapping[str, tuple[str, ...]] = {
    "fewshot-5way1shot": (
        "protocol.episodes=50",
        "protocol.queries=4",
        "training.batch_size=15",
        "teacher.backbone=conv4-32",
    ),
    "distill-overlap50": ("training.batch_size=8", "teacher.backbone=conv4-32"),
    "incremental-1step-5exemplars": ("training.batch_size=8",),
}
"""Protocols of different label spaces, each with settings that shorten its runs."""

_STEPS = 7


class _InterruptingCheckpoints(Checkpoints):
    """Saves a checkpoint after every step, and interrupts the run after those that ``interrupts_after`` accepts."""

    def __init__(self, root: Path, interrupts_after: Callable[[Snapshot], bool]) -> None:
        super().__init__(root, select_device("cpu", "float32"), Silent(), every=0)
        self._interrupts_after = interrupts_after

    def part(self, key: str, name: str) -> Checkpoint:
        checkpoint = super().part(key, name)
        save = checkpoint.save

        def save_and_interrupt(snapshot: Snapshot) -> None:
            save(snapshot)
            if self._interrupts_after(snapshot):
                raise KeyboardInterrupt

        checkpoint.save = save_and_interrupt  # type: ignore[method-assign]
        return checkpoint


def determined_results(
    plan: Plan, teachers: Path, checkpoints: Checkpoints | None = None, seed: int = 3
) -> dict[str, Any]:
    """Execute a run.

    Args:
        plan: The plan of the run.
        teachers: The folder of the teacher store.
        checkpoints: The checkpoints to resume from and to write; None for none.
        seed: The seed of the run.

    Returns:
        All that the run determines: fields of its record, and its arrays as bytes.

    Raises:
        CheckFailed: The run fails.
    """
    device = select_device("cpu", "float32")
    record, arrays = measure(plan, plan.spec(seed), TeacherStore(teachers), device, Silent(), checkpoints)
    require(record["status"] == "done", f"a run of {plan.request.protocol} fails: {record.get('error')}")
    return determined(record) | {name: array.tobytes() for name, array in arrays.items()}


def require_equal_resumed_run(candidate: Candidate, every_second_step: bool = False) -> None:
    """Require that a run of a method, interrupted and resumed until it is done, equals an uninterrupted one.

    Args:
        candidate: The method.
        every_second_step: Interrupt both trainings, the teacher's and the student's, after every second step. The
            default interrupts the student's training alone, once in each stage, after the second step.
    """
    protocol = next(
        (p for p in SMOKE if candidate.entry.skip_reason(transfer_context(p, candidate.entry)) is None), None
    )
    require(protocol is not None, f"it applies to none of {', '.join(SMOKE)}, so that no run can be made")
    assert protocol is not None
    overrides = (*SMOKE[protocol], *candidate.overrides)
    plan = make_plan(Request(protocol, candidate.name, "tiny", "quick", overrides, limit_steps=_STEPS), candidate.root)
    teachers = candidate.scratch / "teachers"
    whole = determined_results(plan, teachers)
    if every_second_step:
        teachers, saves = candidate.scratch / "interrupted-teachers", itertools.count(1)
        checkpoints = _InterruptingCheckpoints(candidate.scratch / "checkpoints", lambda _: next(saves) % 2 == 0)
    else:
        checkpoints = _InterruptingCheckpoints(candidate.scratch / "checkpoints", _is_second_of_stage)
    for _ in range(4 * _STEPS):
        try:
            resumed = determined_results(plan, teachers, checkpoints)
        except KeyboardInterrupt:
            continue
        different = [name for name in whole if resumed.get(name) != whole[name]]
        require(not different, f"interrupted on {protocol} and resumed, its run differs in {', '.join(different)}")
        return
    require(False, f"interrupted on {protocol}, its run never ends: it starts again each time")


def _is_second_of_stage(snapshot: Snapshot) -> bool:
    return bool(snapshot.facts["step"] == 2)
