"""From the blocks of a grid to finished runs: plan the sweep, then run the selected jobs with an executor."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmark.data.published import absolute_name
from benchmark.errors import InputError
from benchmark.records.store import Store
from benchmark.sweep.executors.base import Executor, Observer, Outcome, SweepConfig
from benchmark.sweep.executors.resources import usable_cores, visible_gpus
from benchmark.sweep.grid import GridBlock, Resources, read_grid, write_grid
from benchmark.sweep.jobs import Job, JobList, plan_jobs
from benchmark.sweep.status import SweepStatus, read_status, select_jobs
from benchmark.system.progress import Progress

JobResult = tuple[Job, Outcome]

_LAST_GRID = ".grid.yaml"
"""The file in a results folder with the grid of its last sweep."""


@dataclass(frozen=True)
class ExecutorConfig:
    """Where jobs run and how many at a time."""

    kind: Literal["serial", "local", "slurm"]
    n_jobs: int
    retries: int = 2
    """How often a job whose process was killed is started again."""
    resources: Resources = field(default_factory=Resources)
    """Of each SLURM job, unless the job's own grid block says otherwise."""


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep would do."""

    blocks: tuple[GridBlock, ...]
    config: SweepConfig
    job_list: JobList
    status: SweepStatus
    """The status of all jobs before the sweep."""
    selected: tuple[Job, ...]
    """The jobs that the mode of ``config`` runs."""

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All jobs of the grid."""
        return self.job_list.jobs

    @property
    def store(self) -> Store:
        """The records of the sweep."""
        return Store(self.config.results)


def plan_sweep(blocks: Iterable[GridBlock], config: SweepConfig, progress: Progress) -> SweepPlan:
    """Plan the jobs of a grid and read their status. This runs nothing and writes nothing.

    Raises:
        InputError: a name is unknown, a value is out of bounds, or no request applies.
    """
    blocks = tuple(blocks)
    job_list = plan_jobs(blocks, config.data_root, progress)
    status = read_status(job_list.jobs, Store(config.results))
    return SweepPlan(blocks, config, job_list, status, tuple(select_jobs(job_list.jobs, status, config.mode)))


@dataclass(frozen=True)
class Overhead:
    """What a sweep does beside its runs."""

    starts: int
    """Processes that are started, each of which loads the libraries."""
    teachers: int
    """Teachers without a finished run of this grid; those in the data folder need no training."""
    seconds: float
    """Expected seconds of the starts and of training the teachers, as if one followed the other."""


_START_SECONDS = 4.0
"""Seconds in which a process loads the libraries, on one core of the machine of the reference results."""


def overhead_of(plan: SweepPlan, executor: ExecutorConfig) -> Overhead:
    """Return what the selected jobs cost beside their runs, by earlier records."""
    here = executor.kind == "serial"
    starts = 0 if here else min(executor.n_jobs, len(plan.selected)) if executor.kind == "local" else len(plan.selected)
    done = {job.teacher for job in plan.jobs if plan.status.states[job.key] == "done"}
    teachers = {job.teacher: job for job in plan.selected if job.teacher not in done}
    training = sum(plan.status.teacher_seconds.get(job.request.protocol, 0.0) for job in teachers.values())
    return Overhead(starts, len(teachers), starts * _START_SECONDS + training)


def run_sweep(
    plan: SweepPlan, executor: ExecutorConfig, observe: Observer = lambda job, event: None
) -> list[JobResult]:
    """Run the selected jobs of a sweep. The results folder keeps the grid, for ``read_last_grid``.

    Args:
        plan: the sweep.
        executor: where the jobs run.
        observe: receives the events and the outcome of every job.

    Returns:
        One outcome per selected job, in the order in which they finish. A failed job does not stop the others.
    """
    if not plan.selected:
        return []
    plan.store.check_writable()
    located = [dataclasses.replace(b, datasets=tuple(map(absolute_name, b.datasets))) for b in plan.blocks]
    write_grid(plan.config.results / _LAST_GRID, located)
    return run_jobs(plan.selected, make_executor(plan, executor), observe)


def read_last_grid(results: Path) -> list[GridBlock]:
    """Read the grid of the last sweep in a results folder, which may still run.

    Raises:
        InputError: there was none.
    """
    path = results / _LAST_GRID
    if not path.exists():
        raise InputError(f"no sweep was begun in {results}; name its --results DIR, or --protocols or --grid FILE")
    return read_grid(path)


def run_jobs(jobs: Sequence[Job], executor: Executor, observe: Observer) -> list[JobResult]:
    """Run jobs with an executor. Jobs that another process is running come last; the sweep then waits for them."""
    by_key = {job.key: job for job in jobs}
    results: list[JobResult] = []
    with executor:
        waiting: list[Job] = []
        for wait in (False, True):
            for outcome in executor.run(waiting if wait else jobs, observe, wait=wait):
                job = by_key[outcome.key]
                observe(job, outcome)
                if outcome.status == "busy":
                    waiting.append(job)
                else:
                    results.append((job, outcome))
    return results


def make_executor(plan: SweepPlan, executor: ExecutorConfig) -> Executor:
    """Build the executor that a configuration names, with at most as many workers as there are selected jobs."""
    n_jobs = min(executor.n_jobs, len(plan.selected))
    if executor.kind == "serial":
        from benchmark.sweep.executors.serial import Serial

        return Serial(plan.config)
    if executor.kind == "local":
        from benchmark.sweep.executors.local import Local

        return Local(plan.config, n_jobs, retries=executor.retries)
    from benchmark.sweep.executors.slurm import Slurm

    return Slurm(plan.config, n_jobs, retries=executor.retries, resources=executor.resources)


def default_n_jobs(kind: str, device: str) -> int:
    """Return how many jobs run at a time by default: one per GPU, else 2; 16 on SLURM."""
    if kind == "serial":
        return 1
    if kind == "slurm":
        return 16
    gpus = len(visible_gpus()) if device in ("auto", "cuda") else 0
    return gpus or min(2, usable_cores())
