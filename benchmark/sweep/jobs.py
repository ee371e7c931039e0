"""The jobs of a sweep, one run each, planned from the blocks of a grid."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.backbones import BACKBONES
from benchmark.data import ImageSet
from benchmark.data.sets import DATASETS
from benchmark.errors import DoesNotApply, InputError
from benchmark.experiment.planning import Plan, make_plan
from benchmark.experiment.request import Request
from benchmark.hashing import content_key
from benchmark.methods import METHODS
from benchmark.spec import RunSpec
from benchmark.sweep.grid import GridBlock, Resources
from benchmark.system.progress import Progress
from protocols import PROTOCOLS


@dataclass(frozen=True)
class Job:
    """One run of a sweep."""

    request: Request
    seed: int
    key: str
    """The key of the run's record."""
    dataset: str
    """The data set as the record names it."""
    preset: str
    """The run label, as the record has it."""
    teacher: str
    """Identifies the teacher: jobs with equal values share one trained teacher."""
    reads_teacher: bool
    """Whether the teacher is part of the run's key."""
    resources: Resources
    plug_ins: frozenset[str] = frozenset()
    """The installed packages whose plug-ins the job uses."""

    def __str__(self) -> str:
        return f"{self.request.protocol} {self.request.dataset} {self.request.method} s{self.seed}"


@dataclass(frozen=True)
class SkippedJob:
    """A request of a grid that does not apply."""

    request: Request
    seeds: int
    """Number of seeds that the grid requests."""
    reason: str


@dataclass(frozen=True)
class JobList:
    """The jobs of a grid, each once, and the requests that do not apply.

    The first jobs need different teachers, so that several workers can train these at the same time.
    """

    jobs: tuple[Job, ...]
    skipped: tuple[SkippedJob, ...]


def plan_jobs(blocks: Iterable[GridBlock], data_root: Path, progress: Progress) -> JobList:
    """Plan every run that the blocks request. A run that two blocks request becomes one job.

    Args:
        blocks: the grid.
        data_root: folder of data sets.
        progress: reports the opening of data sets.

    Raises:
        InputError: a name is unknown, a value is out of bounds, or no request applies.
    """
    opened: dict[str, ImageSet] = {}
    first_tasks: dict[str, str] = {}
    jobs: dict[str, Job] = {}
    skipped = []
    for block in blocks:
        for request in block.requests():
            try:
                plan = make_plan(request, data_root, progress, opened)
            except DoesNotApply as error:
                skipped.append(SkippedJob(request, len(block.seeds), str(error)))
                continue
            except InputError as error:
                raise InputError(f"{request.protocol} {request.dataset} {request.method}: {error}") from None
            plug_ins = _plug_ins(plan)
            for seed in block.seeds:
                spec = plan.spec(seed)
                job = Job(
                    request, seed, spec.key, spec.dataset, spec.preset, _teacher_key(plan, spec, first_tasks),
                    spec.reads_teacher, block.slurm, plug_ins,
                )  # fmt: skip
                jobs.setdefault(spec.key, job)
    if not jobs:
        raise InputError(f"nothing of it applies: {skipped[0].reason}")
    return JobList(tuple(_teachers_first(list(jobs.values()))), tuple(skipped))


def _plug_ins(plan: Plan) -> frozenset[str]:
    """Return the packages of the plug-ins among protocol, method, data set and networks of a plan."""
    request, settings = plan.request, plan.settings
    packages = {
        PROTOCOLS.package(request.protocol), METHODS.package(request.method), DATASETS.package(request.dataset),
        BACKBONES.package(settings.student.backbone), BACKBONES.package(settings.teacher.backbone),
    }  # fmt: skip
    return frozenset(package for package in packages if package is not None)


def _teacher_key(plan: Plan, spec: RunSpec, first_tasks: dict[str, str]) -> str:
    """Identify the teacher of a run by its settings and the task that it is trained on.

    Args:
        plan: the plan of the run.
        spec: the run.
        first_tasks: a cache, shared by all calls: the key of the first task by protocol and data set.
    """
    config = spec.config()
    task = content_key([config["protocol"], config["dataset"]])
    if task not in first_tasks:
        first_tasks[task] = plan.protocol.tasks(plan.data)[0].key
    return content_key([spec.teacher_config()["teacher"], first_tasks[task]])


def _teachers_first(jobs: Sequence[Job]) -> list[Job]:
    """Put one job of every teacher first, so that later jobs find their teacher trained.

    In the grid's own order all workers would wait for the worker that trains the first teacher.
    """
    by_teacher: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        by_teacher[job.teacher].append(job)
    groups = list(by_teacher.values())
    return [group[0] for group in groups] + [job for group in groups for job in group[1:]]
