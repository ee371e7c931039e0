"""The suite in a notebook or a program: what the commands do, as functions of names and values."""

from __future__ import annotations

import operator
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, get_args

from benchmark.errors import InputError, in_python
from benchmark.system import interrupts
from protocols import PROTOCOLS as PROTOCOLS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from benchmark.experiment.planning import Plan
    from benchmark.experiment.request import Mode
    from benchmark.experiment.runner import RunContext
    from benchmark.records.run_record import RunRecord
    from benchmark.records.schema import Record
    from benchmark.records.store import Store
    from benchmark.report.notebook import Comparisons
    from benchmark.sweep.execution import SweepPlan
    from benchmark.sweep.grid import GridBlock
    from benchmark.system.progress import Progress

RESULTS = "results/runs"
"""The default folder of records, for functions and commands."""


@contextmanager
def _in_python() -> Iterator[None]:
    """Give messages arguments of Python in place of options of the command line."""
    try:
        yield
    except InputError as error:
        error.args = (in_python(str(error)), *error.args[1:])
        raise


@dataclass(frozen=True)
class PreparedRun:
    """A checked request with its seeds, ready to be measured or estimated."""

    plan: Plan
    seeds: Sequence[int]
    context: RunContext

    def run(self) -> list[Record]:
        """Return the records of all seeds, from the results folder or measured."""
        from benchmark.experiment import runner

        return runner.run(self.plan, self.seeds, self.context)

    def estimate(self) -> dict[str, Any]:
        """Return settings, work, memory and estimated time as JSON values. Nothing is kept."""
        from benchmark.experiment.estimation import estimate

        context = self.context
        return estimate(self.plan, self.seeds, store=context.store, data_root=context.data_root, device=context.device)


def prepare_run(
    protocol: str,
    method: str,
    *,
    dataset: str | None = None,
    seeds: Sequence[int] = (0,),
    preset: str = "quick",
    teacher: str | None = None,
    student: str | None = None,
    allow_overlap: bool = False,
    overrides: Iterable[str] = (),
    limit_steps: int | None = None,
    device: str = "auto",
    compiled: bool = False,
    results: str | os.PathLike[str] = RESULTS,
    data: str | os.PathLike[str] | None = None,
    mode: Mode = "missing",
    checkpoint_every: float = 60.0,
    progress: Progress,
) -> PreparedRun:
    """Check a request and open its data; ``run`` and the command of that name start here. Nothing is trained.

    Args:
        overrides: settings as ``section.name=value``.
        progress: shows the work; it is asked at each step whether a signal to stop has arrived.

    The other arguments are those of ``run``.
    """
    _check_mode(mode)
    from benchmark.data.published import default_data_root
    from benchmark.experiment.planning import make_plan
    from benchmark.experiment.request import Request
    from benchmark.experiment.runner import RunContext
    from benchmark.recipes.recipe import load_recipe, recipe_names
    from benchmark.records.store import Store
    from benchmark.system.progress import InterruptibleProgress
    from benchmark.training import select_device

    if dataset is None:
        dataset = load_recipe(preset).dataset if preset in recipe_names() else "glyphs"
    data_root = default_data_root() if data is None else Path(data)
    allowed = ["teacher.overlap=allowed"] if allow_overlap else []
    backbones = _backbones(teacher, student)
    request = Request(protocol, method, dataset, preset, (*backbones, *allowed, *overrides), limit_steps)
    interruptible = InterruptibleProgress(progress, stopped=interrupts.stop_requested)
    plan = make_plan(request, data_root, interruptible)
    context = RunContext(
        store=Store(Path(results)),
        data_root=data_root,
        device=select_device(device, plan.settings.training.precision, compiled=compiled),
        progress=interruptible,
        mode=mode,
        checkpoint_every=checkpoint_every,
    )
    return PreparedRun(plan, seeds, context)


@_in_python()
def run(
    protocol: str,
    method: str,
    *,
    dataset: str | None = None,
    seeds: SupportsIndex | Iterable[SupportsIndex] = 0,
    preset: str = "quick",
    teacher: str | None = None,
    student: str | None = None,
    allow_overlap: bool = False,
    settings: Mapping[str, object] | None = None,
    limit_steps: int | None = None,
    device: str = "auto",
    compiled: bool = False,
    results: str | os.PathLike[str] = RESULTS,
    data: str | os.PathLike[str] | None = None,
    mode: Mode = "missing",
    checkpoint_every: float = 60.0,
    progress: bool | Progress = True,
) -> list[RunRecord]:
    """Train, measure and save as ``python -m benchmark run`` does.

    Keys, values and files equal those of the command. Finished runs are read from the results folder. After Ctrl-C the
    same call resumes.

    Args:
        protocol: name of the protocol, as ``fewshot-5way1shot``.
        method: name of the method, as ``refilled``.
        dataset: name of the data set; None means the recipe's, or ``glyphs``.
        seeds: one seed or several.
        preset: ``quick``, ``paper``, the name of a recipe, or a file of ``tune`` or its folder.
        teacher: backbone of the teacher, or a pretrained teacher.
        student: backbone of the student.
        allow_overlap: whether to take a pretrained teacher that may know what is judged; tables mark the row.
        settings: values by ``section.name``, as ``{"method.margin": 0.1}``.
        limit_steps: training steps of teacher and student, for a smoke run.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        compiled: whether to compile the networks.
        results: the folder of records.
        data: the folder of data sets and teachers; None means ``BENCHMARK_DATA`` or the user's cache.
        mode: ``missing``, ``retry-failed``, ``force`` or ``only-cache``.
        checkpoint_every: seconds between two checkpoints of a training.
        progress: True for a bar, False for silence, or an object that receives the progress.

    Returns:
        One record for each seed, in the order of ``seeds``. A record is a dictionary of JSON values with ``value``,
        ``intervals``, ``references``, ``history`` and ``config``, and it prints as one line.
        ``pandas.DataFrame(records)`` is a table of them,
        ``leaderboard(records)`` one of means and intervals. A run that fails with an error of its own has status
        ``failed``, and a warning says so.

    Raises:
        InputError: the request cannot be carried out; the message is the line that the command prints.
        KeyboardInterrupt: Ctrl-C was pressed; raised at the next training step.
    """
    from benchmark.display.progress_bar import Bar
    from benchmark.records.run_record import in_folder
    from benchmark.system.progress import Silent

    if isinstance(progress, bool):
        progress = Bar() if progress else Silent()
    with interrupts.sigint_handled():
        prepared = prepare_run(
            protocol, method, dataset=dataset, seeds=_seeds(seeds), preset=preset, teacher=teacher, student=student,
            allow_overlap=allow_overlap, overrides=_overrides(settings), limit_steps=limit_steps,
            device=device, compiled=compiled, results=results, data=data, mode=mode, checkpoint_every=checkpoint_every,
            progress=progress,
        )  # fmt: skip
        records = in_folder(prepared.run(), Path(results))
    for record in records:
        if record["status"] != "done":
            warnings.warn(f"seed {record['seed']} failed: {record['error']}", stacklevel=3)
    return records


def prepare_sweep(
    blocks: Iterable[GridBlock],
    *,
    device: str = "auto",
    results: str | os.PathLike[str] = RESULTS,
    data: str | os.PathLike[str] | None = None,
    mode: Mode = "missing",
    checkpoint_every: float = 60.0,
    progress: Progress,
) -> SweepPlan:
    """Plan the runs of a grid and read their state. Nothing is trained. ``run_grid`` and ``sweep`` start here.

    The arguments are those of ``run_grid``.
    """
    _check_mode(mode)
    from benchmark.data.published import default_data_root
    from benchmark.sweep.execution import plan_sweep
    from benchmark.sweep.executors.base import SweepConfig
    from benchmark.system.progress import InterruptibleProgress
    from benchmark.training import select_device

    select_device(device)  # an impossible device fails here, not in every worker
    data_root = default_data_root() if data is None else Path(data)
    config = SweepConfig(Path(results).resolve(), data_root.resolve(), device, mode, checkpoint_every)
    return plan_sweep(blocks, config, InterruptibleProgress(progress, stopped=interrupts.stop_requested))


@_in_python()
def run_grid(
    protocols: str | Sequence[str],
    methods: str | Sequence[str] = "all",
    *,
    datasets: str | Sequence[str] = "glyphs",
    seeds: SupportsIndex | Iterable[SupportsIndex] = 0,
    preset: str = "quick",
    teacher: str | None = None,
    student: str | None = None,
    settings: Mapping[str, object] | None = None,
    limit_steps: int | None = None,
    jobs: int | None = None,
    device: str = "auto",
    results: str | os.PathLike[str] = RESULTS,
    data: str | os.PathLike[str] | None = None,
    mode: Mode = "missing",
    checkpoint_every: float = 60.0,
    progress: bool = True,
) -> list[RunRecord]:
    """Run each protocol with each method, data set and seed, as ``python -m benchmark sweep`` does.

    A failed run does not stop the others; a warning names it. After Ctrl-C the same call resumes.

    Args:
        protocols: one name or several.
        methods: one name or several; ``all`` means every method that applies.
        datasets: one name or several.
        seeds: one seed or several.
        preset: ``quick``, ``paper``, the name of a recipe, or a file of ``tune`` or its folder.
        teacher: backbone of the teachers, or a pretrained teacher.
        student: backbone of the students.
        settings: values by ``section.name``, for all runs.
        limit_steps: training steps of teacher and student, for a smoke run.
        jobs: runs at a time; None means one per GPU, else two. With 1 the runs stay in this process. Otherwise a script
            must call this under ``if __name__ == "__main__":``, because worker processes import it.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        results: the folder of records.
        data: the folder of data sets and teachers; None means ``BENCHMARK_DATA`` or the user's cache.
        mode: ``missing``, ``retry-failed``, ``force`` or ``only-cache``.
        checkpoint_every: seconds between two checkpoints of a training.
        progress: whether to show the running jobs.

    Returns:
        The finished records of the grid.

    Raises:
        InputError: a name is unknown, a value is invalid, or nothing of the grid applies.
    """
    from benchmark.display.progress_bar import Bar
    from benchmark.display.sweep_table import SweepTable
    from benchmark.records.run_record import in_folder
    from benchmark.sweep.execution import ExecutorConfig, default_n_jobs, run_sweep
    from benchmark.sweep.grid import GridBlock
    from benchmark.system.progress import Silent

    block = GridBlock(
        protocols=_names(protocols), methods=_names(methods), datasets=_names(datasets), seeds=tuple(_seeds(seeds)),
        preset=preset, set=(*_backbones(teacher, student), *_overrides(settings)),
        limit_steps=limit_steps,
    )  # fmt: skip
    with interrupts.sigint_handled():
        plan = prepare_sweep(
            [block], device=device, results=results, data=data, mode=mode, checkpoint_every=checkpoint_every,
            progress=Bar() if progress else Silent(),
        )  # fmt: skip
        n_jobs = jobs or default_n_jobs("local", device)
        with SweepTable(plan.selected, plan.status.seconds, n_jobs) if progress else nullcontext() as table:
            outcomes = run_sweep(
                plan, ExecutorConfig("serial" if n_jobs == 1 else "local", n_jobs), table or (lambda job, event: None)
            )
    for job, outcome in outcomes:
        if outcome.status == "failed":
            warnings.warn(f"{job} failed: {outcome.error}", stacklevel=3)
    records = (plan.store.find(job.key) for job in plan.jobs)
    done = (record for record in records if record is not None and record["status"] == "done")
    return in_folder(done, Path(results))


@_in_python()
def load_records(
    results: str | os.PathLike[str] = RESULTS, *, protocol: str | None = None, dataset: str | None = None
) -> list[RunRecord]:
    """Return the records of a folder by file name. A damaged record is left out with a warning.

    Args:
        results: the folder of records.
        protocol: only records whose protocol is this name or starts with it, as ``distill``.
        dataset: only records of this data set.

    Raises:
        InputError: no record matches.
    """
    from benchmark.records.run_record import in_folder
    from benchmark.records.store import Store

    records, damaged = Store(Path(results)).select(protocol, dataset)
    for problem in damaged:
        warnings.warn(in_python(str(problem)), stacklevel=3)
    return in_folder(records, Path(results))


@_in_python()
def leaderboard(records: Iterable[Record] | str | os.PathLike[str]) -> pd.DataFrame:
    """Rank methods. See ``benchmark.report.leaderboard.leaderboard`` for the columns.

    Args:
        records: the records, or the folder that holds them.

    Raises:
        InputError: these are no records.
    """
    from benchmark.report.leaderboard import leaderboard as make

    return make(_records(records, "leaderboard"))


@_in_python()
def compare(
    records: Iterable[Record] | str | os.PathLike[str],
    *methods: str,
    results: str | os.PathLike[str] | None = None,
) -> Comparisons:
    """Compare methods on common seeds.

    Args:
        records: the records of all methods, or the folder that holds them.
        methods: labels of the methods to compare, as tables show them.
        results: the folder of the arrays, which hold the scores of single episodes and images. None means the folder
            that each record was read from.

    Returns:
        A list with, for each pair of methods, the differences, their intervals, the tests and a ``sentence``. It prints
        as its sentences, and a notebook shows it as a table.

    Raises:
        InputError: these are no records, or a method has none.
    """
    from benchmark.report.aggregation import group_by_method
    from benchmark.report.compare import compare as make
    from benchmark.report.notebook import Comparisons

    method_results = group_by_method(_records(records, "compare"))
    comparisons, left_out = make(method_results, methods, _store(results))
    for line in left_out:
        warnings.warn(in_python(f"not compared: {line}"), stacklevel=3)
    for damage in dict.fromkeys(c.damage for c in comparisons if c.damage is not None):
        warnings.warn(in_python(damage), stacklevel=3)
    return Comparisons(comparisons)


@_in_python()
def plot(
    records: Iterable[Record] | str | os.PathLike[str], name: str, *, results: str | os.PathLike[str] | None = None
) -> Figure:
    """Draw a figure of records, as ``python -m benchmark plot`` does. Nothing is written.

    Args:
        records: the records, or the folder that holds them.
        name: a figure, as ``overlap``; or one of several figures of that kind, as ``overlap-glyphs``.
        results: the folder of the arrays; None means the folder that each record was read from.

    Returns:
        A figure of matplotlib, which a notebook shows; ``figure.savefig("file.pdf")`` saves it.

    Raises:
        InputError: these are no records, they do not fit the figure, or there are several figures of that name.
    """
    from benchmark.report.aggregation import group_by_method
    from benchmark.report.figures import FIGURES, ResultSet, drawings

    kinds = [kind for kind in FIGURES.names() if name == kind or name.startswith(f"{kind}-")]
    kind = max(kinds, key=len, default=name)
    known, reason = drawings(kind, ResultSet(group_by_method(_records(records, "plot")), _store(results)))
    if reason is not None:
        raise InputError(f"figure {name}: {reason}")
    chosen = known if name == kind else [drawing for drawing in known if drawing.name == name]
    if len(chosen) != 1:
        raise InputError(f"figure {name}: the records give {', '.join(drawing.name for drawing in known)}; name one")
    return chosen[0].figure


def _records(records: Iterable[Record] | str | os.PathLike[str], function: str) -> list[Record]:
    """Return records, read from their folder if that is given."""
    if isinstance(records, (str, os.PathLike)):
        return [*load_records(records)]
    known = [] if isinstance(records, Mapping) or not isinstance(records, Iterable) else list(records)
    if not known or not all(isinstance(record, Mapping) and "protocol" in record for record in known):
        raise InputError(f"{function} takes a list of records, as load_records gives it, or their folder")
    return known


def _store(results: str | os.PathLike[str] | None) -> Store:
    """Return the store of arrays in a folder, or the one that looks into the folder of each record."""
    from benchmark.records.folders import FolderStore
    from benchmark.records.store import Store

    return FolderStore(Path(RESULTS)) if results is None else Store(Path(results))


def _check_mode(mode: object) -> None:
    from benchmark.experiment.request import Mode

    if mode not in get_args(Mode):
        raise InputError(f"unknown mode {mode!r}; known: {', '.join(get_args(Mode))}")


def _backbones(teacher: str | None, student: str | None) -> tuple[str, ...]:
    networks = {"teacher": teacher, "student": student}
    return tuple(f"{section}.backbone={name}" for section, name in networks.items() if name is not None)


def _overrides(settings: Mapping[str, object] | None) -> tuple[str, ...]:
    """Return settings as ``section.name=value``.

    Raises:
        InputError: they are no mapping from such names to single values.
    """
    example = 'settings are values by name, as {"training.lr": 0.1}'
    if settings is None:
        return ()
    if not isinstance(settings, Mapping):
        raise InputError(f"settings={settings!r}: {example}")
    for name, value in settings.items():
        if isinstance(value, Mapping):
            raise InputError(f"settings[{name!r}] is a mapping: {example}")
        if not isinstance(name, str) or not all(name.partition(".")):
            raise InputError(f"settings[{name!r}] has no section: {example}")
    return tuple(f"{name}={value}" for name, value in settings.items())


def _names(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _seeds(seeds: SupportsIndex | Iterable[SupportsIndex]) -> list[int]:
    try:
        numbers = [operator.index(seed) for seed in (seeds if isinstance(seeds, Iterable) else (seeds,))]
    except TypeError:
        numbers = []
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise InputError(f"seeds {seeds!r} are not different whole numbers from 0 on, as 3 or range(5)")
    return numbers
