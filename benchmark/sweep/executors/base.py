"""The interface of executors, and how one job runs in the process that an executor chose for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol

from benchmark.data import ImageSet
from benchmark.errors import InputError
from benchmark.experiment.planning import Plan, make_plan
from benchmark.experiment.request import Mode, Request
from benchmark.experiment.runner import RunContext, run_seed
from benchmark.records.store import Store
from benchmark.sweep.jobs import Job
from benchmark.system.interrupts import stop_requested
from benchmark.system.progress import Event, InterruptibleProgress, Progress

if TYPE_CHECKING:
    from typing import Self

    from benchmark.training import TeacherOutputCache


@dataclass(frozen=True)
class SweepConfig:
    """What all jobs of a sweep have in common."""

    results: Path
    data_root: Path
    device: str = "auto"
    mode: Mode = "missing"
    checkpoint_every: float = 60.0
    """Seconds between two checkpoints of a training."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    key: str
    """The key of the job."""
    status: Literal["done", "failed", "busy"]
    """``busy``: another process is running the job, and this one did not wait."""
    value: float | None = None
    """The record's value, if the job is done."""
    error: str = ""
    """The error of a failed job, in one line."""


Observer = Callable[[Job, Event | Outcome], object]
"""Receives the events of running jobs and their outcomes.

The first event of a job is ``started``. A ``message`` is from the executor: messages of the runs are dropped.
"""


class Executor(Protocol):
    """Runs jobs. It is a context manager; leaving it stops the jobs that still run."""

    def run(self, jobs: Sequence[Job], observe: Observer, *, wait: bool = False) -> Iterator[Outcome]:
        """Run jobs and yield one outcome for each, in the order in which they end.

        Args:
            jobs: what to run.
            observe: receives the events of the jobs, but not their outcomes.
            wait: wait for jobs that another process is running. Otherwise their outcome is ``busy``.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def run_job(job: Job, config: SweepConfig, emit: Callable[[Event], object], *, wait: bool = False) -> Outcome:
    """Run a job in this process.

    Args:
        job: the run.
        config: of the sweep.
        emit: receives the steps of the run.
        wait: wait if another process is running the job.

    Returns:
        The outcome. Every error of the run is a ``failed`` outcome; only an interruption raises.
    """
    from benchmark.training import select_device

    progress = InterruptibleProgress(
        Progress(lambda event: None if event.kind == "message" else emit(event)), stopped=stop_requested
    )
    try:
        plan = _plan(job.request, config.data_root)
        spec = plan.spec(job.seed)
        if spec.key != job.key:
            raise InputError(f"{job} is another run now than when the sweep began: its data or the code have changed")
        context = RunContext(
            store=Store(config.results), data_root=config.data_root,
            device=select_device(config.device, spec.training.precision),
            progress=progress, mode=config.mode, checkpoint_every=config.checkpoint_every,
            teacher_cache=_teacher_outputs(config.data_root),
        )  # fmt: skip
        record = run_seed(plan, job.seed, context, wait=wait)
    except InputError as error:
        return Outcome(job.key, "failed", error=_one_line(str(error)))
    except Exception as error:
        return Outcome(job.key, "failed", error=_one_line(f"{type(error).__name__}: {error}"))
    if record is None:
        return Outcome(job.key, "busy")
    if record["status"] == "done":
        return Outcome(job.key, "done", value=record["value"])
    return Outcome(job.key, "failed", error=_one_line(record["error"]))


@lru_cache(maxsize=8)
def _plan(request: Request, data_root: Path) -> Plan:
    return make_plan(request, data_root, opened=_open_data_sets(data_root))


@lru_cache(maxsize=1)
def _open_data_sets(data_root: Path) -> dict[str, ImageSet]:
    """Return the data sets that this process has opened, by name. Plans add to it."""
    return {}


@lru_cache(maxsize=1)
def _teacher_outputs(data_root: Path) -> TeacherOutputCache:
    """Return the teacher outputs that the runs of this process share. A folder of teachers has one cache."""
    from benchmark.training import TeacherOutputCache

    return TeacherOutputCache()


def _one_line(message: str) -> str:
    return " ".join(message.split())
