"""One run after the other, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from benchmark.sweep.executors.base import Job, Outcome, Setting, Watch, run_job
from benchmark.sweep.jobs import Cell


class Serial:
    """An ``Executor`` that needs nothing but this process."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting

    def carry_out(self, jobs: Sequence[Job], watch: Watch) -> Iterator[Outcome]:
        """One outcome for every job, in their order."""
        for job in jobs:
            watch.started(job.cell)
            yield run_job(job, self._setting, Relayed(job.cell, watch))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing goes on."""


class Relayed:
    """A ``Progress`` that tells a watch of a run's work; what the run says in passing is not kept."""

    def __init__(self, cell: Cell, watch: Watch) -> None:
        self._cell = cell
        self._watch = watch
        self._title = ""
        self._steps = 0

    def say(self, message: str) -> None:
        """Nothing."""

    def begin(self, title: str, steps: int) -> None:
        """A piece of work starts."""
        self._title, self._steps = title, steps
        self._watch.advanced(self._cell, title, 0, steps, "")

    def advance(self, done: int, facts: str) -> None:
        """It goes on."""
        self._watch.advanced(self._cell, self._title, done, self._steps, facts)

    def end(self) -> None:
        """Nothing: the run's next piece of work, or its end, takes its place."""
