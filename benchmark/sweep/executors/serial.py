"""One job after the other, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Self

from benchmark.sweep.executors.base import Observer, Outcome, SweepConfig, run_job
from benchmark.sweep.jobs import Job
from benchmark.system.progress import Event


class Serial:
    """An ``Executor`` that runs every job in this process."""

    def __init__(self, config: SweepConfig) -> None:
        self._config = config

    def run(self, jobs: Sequence[Job], observe: Observer, *, wait: bool = False) -> Iterator[Outcome]:
        """Run the jobs in their order."""
        for job in jobs:
            observe(job, Event("started"))
            yield run_job(job, self._config, partial(observe, job), wait=wait)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
