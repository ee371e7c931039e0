"""What an executor is: it is given runs and yields what came of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from benchmark.sweep.jobs import Cell
from benchmark.system.interrupts import stop_requested
from benchmark.system.progress import InterruptibleProgress, Progress

if TYPE_CHECKING:
    from typing import Self

    from benchmark.training import TeacherOutputCache


@dataclass(frozen=True)
class Setting:
    """What all runs of a sweep have in common."""

    results: Path
    data_root: Path
    device: str = "auto"
    mode: Mode = "missing"
    checkpoint_every: float = 60.0


@dataclass(frozen=True)
class Job:
    """A run to be carried out. wait: where another process is at it, wait for that instead of passing it by."""

    cell: Cell
    wait: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a job. ``busy``: another process is at it and the job was not to wait.

    value: of a finished run; error: in one line.
    """

    key: str
    status: Literal["done", "failed", "busy"]
    value: float | None = None
    error: str = ""


class Watch(Protocol):
    """Receives what happens to the runs while they are carried out."""

    def started(self, cell: Cell) -> None:
        """A run is at work now."""

    def advanced(self, cell: Cell, title: str, done: int, steps: int, facts: str) -> None:
        """So many steps of a piece of its work are done."""

    def said(self, message: str) -> None:
        """A line worth keeping on the screen."""

    def finished(self, cell: Cell, outcome: Outcome) -> None:
        """A run is over."""


class Executor(Protocol):
    """Carries out runs. Within ``with``; leaving that ends whatever still goes on."""

    def carry_out(self, jobs: Sequence[Job], watch: Watch) -> Iterator[Outcome]:
        """One outcome for every job, as they come."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def run_job(job: Job, setting: Setting, progress: Progress) -> Outcome:
    """Carry out a job in this process. What goes wrong is an outcome; only an interruption raises."""
    from benchmark.training import select_device

    cell = job.cell
    progress_ = InterruptibleProgress(progress, stopped=stop_requested)
    try:
        plan = _plan(cell.request, setting.data_root)
        spec = plan.spec(cell.seed)
        if spec.key != cell.key:
            raise InputError(f"{cell} is another run now than when the sweep began: its data or the code have changed")
        context = RunContext(
            store=Store(setting.results), data_root=setting.data_root,
            device=select_device(setting.device, spec.training.precision),
            progress=progress_, mode=setting.mode, checkpoint_every=setting.checkpoint_every,
            teacher_cache=_passes(setting.data_root),
        )  # fmt: skip
        record = run_seed(plan, cell.seed, context, wait=job.wait)
    except InputError as error:
        return Outcome(cell.key, "failed", error=_line(str(error)))
    except Exception as error:
        return Outcome(cell.key, "failed", error=_line(f"{type(error).__name__}: {error}"))
    if record is None:
        return Outcome(cell.key, "busy")
    if record["status"] == "done":
        return Outcome(cell.key, "done", value=record["value"])
    return Outcome(cell.key, "failed", error=_line(record["error"]))


@lru_cache(maxsize=8)
def _plan(request: Request, data_root: Path) -> Plan:
    return make_plan(request, data_root, opened=_opened(data_root))


@lru_cache(maxsize=1)
def _opened(data_root: Path) -> dict[str, ImageSet]:
    """The data sets that this process has open."""
    return {}


@lru_cache(maxsize=1)
def _passes(data_root: Path) -> TeacherOutputCache:
    """What the teachers kept there have made of batches in the runs of this process."""
    from benchmark.training import TeacherOutputCache

    return TeacherOutputCache()


def _line(message: str) -> str:
    return " ".join(message.split())
