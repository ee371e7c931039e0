"""Carrying out the cells of a grid that are to be done."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.experiment.request import Mode
from benchmark.sweep.executors.base import Executor, Job, Outcome, Watch
from benchmark.sweep.jobs import Cell, State, Survey

_TO_DO: dict[Mode, tuple[State, ...]] = {
    "missing": ("missing", "failed", "running"),
    "retry-failed": ("failed",),
    "force": ("missing", "failed", "running", "done"),
    "only-cache": (),
}


def to_do(cells: Sequence[Cell], found: Survey, mode: Mode) -> list[Cell]:
    """The cells that a mode asks to be carried out; one that another process is at is waited for."""
    return [cell for cell in cells if found.states[cell.key] in _TO_DO[mode]]


def carry_out(cells: Sequence[Cell], executor: Executor, watch: Watch) -> list[tuple[Cell, Outcome]]:
    """Carry out cells and say what came of each. A failure does not stop the rest.

    What another process is at is left until everything else is done, and waited for then.
    """
    by_key = {cell.key: cell for cell in cells}
    came: list[tuple[Cell, Outcome]] = []
    with executor:
        jobs = [Job(cell) for cell in cells]
        while jobs:
            passed = []
            for outcome in executor.carry_out(jobs, watch):
                cell = by_key[outcome.key]
                watch.finished(cell, outcome)
                if outcome.status == "busy":
                    passed.append(Job(cell, wait=True))
                else:
                    came.append((cell, outcome))
            jobs = passed
    return came


class Quiet:
    """A ``Watch`` that says nothing."""

    def started(self, cell: Cell) -> None:
        """Nothing."""

    def advanced(self, cell: Cell, title: str, done: int, steps: int, facts: str) -> None:
        """Nothing."""

    def said(self, message: str) -> None:
        """Nothing."""

    def finished(self, cell: Cell, outcome: Outcome) -> None:
        """Nothing."""
