"""A run, and the same run broken off again and again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.checks.check import Subject, require
from benchmark.experiment.runner import Plan, Request, measure, transfer_context
from benchmark.system.progress import Silent
from benchmark.training import Checkpoints, TeacherStore, select_device
from benchmark.training.checkpoints import Checkpoint, Snapshot

SMOKE: Mapping[str, tuple[str, ...]] = {
    "fewshot-5way1shot": ("protocol.episodes=50", "protocol.queries=4", "training.batch_size=15"),
    "distill-overlap50": ("training.batch_size=8",),
    "incremental-1step-5exemplars": ("training.batch_size=8",),
}
"""Protocols of different label spaces, and settings that make a run of each short."""

COMPARED = ("status", "metric", "value", "n", "intervals", "references", "facts", "history")
"""What a run determines of its record; the rest is times, places and versions."""

_STEPS = 7


class _Breaking(Checkpoints):
    """Breaks a run off at the second state of a training that is kept."""

    kept = 0

    def part(self, key: str, name: str) -> Checkpoint:
        """As ever, but for what happens when it is kept."""
        made = super().part(key, name)
        save = made.save

        def broken_off(snapshot: Snapshot) -> None:
            save(snapshot)
            self.kept += 1
            if self.kept == 2:
                raise KeyboardInterrupt

        made.save = broken_off  # type: ignore[method-assign]
        return made


def carry_out(plan: Plan, root: Path, checkpoints: Checkpoints | None = None, seed: int = 3) -> dict[str, Any]:
    """What a run determines, its arrays as bytes; ``Broken`` where it fails."""
    bank = TeacherStore(root / "teachers")
    record, arrays = measure(plan, plan.spec(seed), bank, select_device("cpu", "float32"), Silent(), checkpoints)
    require(record["status"] == "done", f"a run of {plan.request.protocol} fails: {record.get('error')}")
    return {name: record[name] for name in COMPARED} | {name: x.tobytes() for name, x in arrays.items()}


def check_goes_on(subject: Subject) -> None:
    """A run of the method, broken off and taken up until it is done, ends as one that never was."""
    protocol = next((p for p in SMOKE if subject.entry.skip_reason(transfer_context(p, subject.entry)) is None), None)
    require(protocol is not None, f"it applies to none of {', '.join(SMOKE)}: there is nothing to run it on")
    assert protocol is not None
    overrides = (*SMOKE[protocol], *subject.overrides)
    plan = Plan(Request(protocol, subject.name, "tiny", "quick", overrides, limit_steps=_STEPS), subject.root)
    whole = carry_out(plan, subject.scratch / "whole")
    pieces = subject.scratch / "pieces"
    device = select_device("cpu", "float32")
    for _ in range(4 * _STEPS):
        try:
            found = carry_out(plan, pieces, _Breaking(pieces / "checkpoints", device, Silent(), every=0))
        except KeyboardInterrupt:
            continue
        different = [name for name in whole if found.get(name) != whole[name]]
        require(not different, f"broken off on {protocol} and taken up again, it differs in {', '.join(different)}")
        return
    require(False, f"broken off on {protocol}, it never ends: it begins anew each time")
