"""Commands on many runs: ``sweep`` and ``status``."""

# Annotations are evaluated here, unlike in other modules: ``with_grid_options`` hands them to typer in a signature.

import inspect
import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmark.cli import completion
from benchmark.cli.options import (
    DEFAULT_FOLDERS,
    CheckpointEvery,
    Data,
    Device,
    Results,
    complain,
    data_root,
    one_folder,
)
from benchmark.cli.run import RunMode
from benchmark.display.console import say
from benchmark.errors import InputError

if TYPE_CHECKING:
    from benchmark.sweep.grid import GridBlock
    from benchmark.system.progress import Progress


class ExecutorKind(StrEnum):
    """Where the runs of a sweep are executed."""

    serial = "serial"
    local = "local"
    slurm = "slurm"


Jobs = Annotated[
    int | None,
    typer.Option(
        "-j", "--jobs", min=1, metavar="N", help="Runs at a time [default: one per GPU, else 2; on SLURM 16]."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print only a summary, as JSON.")]


def read_blocks(
    protocols: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            autocompletion=completion.listed(completion.protocols),
            help="Protocols, as distill-same,fewshot-5way1shot; repeatable.",
        ),
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            autocompletion=completion.listed(completion.methods, "all"),
            help="Methods, as refilled,ce; `all` is every one that applies [default: all].",
        ),
    ] = None,
    datasets: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES", autocompletion=completion.listed(completion.datasets), help="Data sets [default: glyphs]."
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.teachers,
            help="Backbone of the teachers, or a pretrained teacher; see `list backbones`, `list teachers`.",
        ),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(autocompletion=completion.backbones, help="Backbone of the students; see `list backbones`."),
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds: 3 or 0,1,2 or 0-4 [default: 0].")] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.presets,
            help="Named settings: quick or paper, or a FILE.toml of `tune`, or its folder [default: quick].",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="SECTION.NAME=VALUE",
            help="Change a setting of every run; repeatable. With teacher.seed=run, each seed trains its own teacher.",
        ),
    ] = None,
    limit_steps: Annotated[int | None, typer.Option(metavar="N", help="Train for N steps only (smoke runs).")] = None,
    grid: Annotated[
        Path | None,
        typer.Option("--grid", metavar="FILE", help="YAML file with a list of blocks, instead of the options above."),
    ] = None,
) -> "list[GridBlock] | None":
    """Return the blocks of the options or of the grid file; None if neither is given."""
    from benchmark.settings import parse_seeds
    from benchmark.sweep.grid import GridBlock, read_grid

    networks = {"teacher": teacher, "student": student}
    set_ = [*(f"{part}.backbone={name}" for part, name in networks.items() if name is not None), *(set_ or ())]
    options = {
        "protocols": split_names(protocols),
        "methods": split_names(methods),
        "datasets": split_names(datasets),
        "seeds": tuple(parse_seeds(seeds)) if seeds is not None else None,
        "preset": preset,
        "set": tuple(set_) if set_ else None,
        "limit_steps": limit_steps,
    }
    named: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if grid is not None:
        if named:
            option = next(iter(named)).replace("_", "-")
            raise InputError(f"give --grid or the options, not both; --{option} can stand in the file")
        return read_grid(grid)
    if not named:
        return None
    if "protocols" not in named:
        raise InputError("name the protocols with --protocols, as --protocols distill-same,fewshot-5way1shot")
    return [GridBlock(**named)]


def with_grid_options(command: Callable[..., None]) -> Callable[..., None]:
    """Decorator: replace a command's parameter ``blocks`` by the options of ``read_blocks``.

    typer makes the options of a command from the parameters of its signature.
    """
    grid_options = inspect.signature(read_blocks).parameters
    other_options = [p for p in inspect.signature(command).parameters.values() if p.name != "blocks"]

    def with_options(**values: Any) -> None:
        blocks = read_blocks(**{name: values.pop(name) for name in grid_options})
        command(blocks, **values)

    with_options.__name__, with_options.__doc__ = command.__name__, command.__doc__
    with_options.__signature__ = inspect.Signature([*grid_options.values(), *other_options])  # type: ignore[attr-defined]
    return with_options


@with_grid_options
def sweep(
    blocks: "list[GridBlock] | None",
    executor: Annotated[
        ExecutorKind, typer.Option(help="One after the other, in workers here, or on SLURM.")
    ] = ExecutorKind.local,
    jobs: Jobs = None,
    mode: Annotated[RunMode, typer.Option(help="Which runs to execute; as for `run`.")] = RunMode.missing,
    retries: Annotated[
        int, typer.Option(min=0, metavar="N", help="How often to start a run again if its process was killed.")
    ] = 2,
    device: Device = "auto",
    results: Results = DEFAULT_FOLDERS,
    data: Data = None,
    checkpoint_every: CheckpointEvery = 60.0,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print what is done, missing and not applicable, and SLURM's scripts; run and write nothing.",
        ),
    ] = False,
    as_json: AsJson = False,
    slurm_partition: Annotated[str | None, typer.Option(metavar="NAME", help="Partition of the jobs.")] = None,
    slurm_account: Annotated[str | None, typer.Option(metavar="NAME", help="Account that pays for the jobs.")] = None,
    slurm_time: Annotated[
        int | None,
        typer.Option(min=1, metavar="MINUTES", help="Time limit; a run that exceeds it resumes [default: 60]."),
    ] = None,
    slurm_gpus: Annotated[int | None, typer.Option(min=0, metavar="N", help="GPUs of a job.")] = None,
    slurm_cpus: Annotated[int | None, typer.Option(min=1, metavar="N", help="Cores of a job [default: 1].")] = None,
    slurm_memory: Annotated[int | None, typer.Option(min=1, metavar="GIB", help="Memory of a job.")] = None,
) -> None:
    """Run every missing run of a grid.

    A grid has each protocol with each method, data set and seed.

    A grid file is a list of blocks with the same names: protocols, methods, datasets, seeds, preset, set, limit_steps,
    slurm. A failure does not stop the other runs. After an interruption the same command resumes. Several sweeps may
    share a results folder.

    \b
    Examples:
      python -m benchmark sweep --protocols distill-same,distill-cross --methods refilled,ce --seeds 0-4 -j 2
      python -m benchmark sweep --grid grid.yaml --dry-run
    """
    from benchmark.sweep.grid import Resources

    resources = Resources(slurm_partition, slurm_account, slurm_time, slurm_gpus, slurm_cpus, slurm_memory)
    if executor is not ExecutorKind.slurm and resources != Resources():
        raise InputError("the options --slurm-... go with --executor slurm")
    if blocks is None:
        raise InputError("name what to run: --protocols, with --methods, --datasets and --seeds, or --grid FILE")
    from benchmark import api
    from benchmark.display.sweep_table import SweepTable, print_status, status_as_json, time_estimate
    from benchmark.display.tables import print_text
    from benchmark.sweep.execution import ExecutorConfig, default_n_jobs, overhead_of, run_sweep
    from benchmark.sweep.status import read_status

    plan = api.prepare_sweep(
        blocks, device=device, results=one_folder(results), data=data_root(data), mode=mode.value,
        checkpoint_every=checkpoint_every, progress=planning_progress(as_json),
    )  # fmt: skip
    n_jobs = jobs or default_n_jobs(executor.value, device)
    executor_config = ExecutorConfig(executor.value, n_jobs, retries, resources)
    if not as_json:
        print_status(plan.job_list, plan.status)
        print_text(time_estimate(plan.selected, plan.status.seconds, n_jobs, overhead_of(plan, executor_config)))
    if dry_run and executor is ExecutorKind.slurm and not as_json:
        from benchmark.sweep.executors.slurm import scripts

        for script in scripts(plan.selected, plan.config, n_jobs, resources):
            say(f"\n{script}")
    status, failures = plan.status, []
    if plan.selected and not dry_run:
        if as_json:
            job_results = run_sweep(plan, executor_config)
        else:
            with SweepTable(plan.selected, plan.status.seconds, n_jobs) as table:
                job_results = run_sweep(plan, executor_config, table)
        failures = [f"{job} failed: {outcome.error}" for job, outcome in job_results if outcome.status == "failed"]
        status = read_status(plan.jobs, plan.store)
        if not as_json:
            done = len(job_results) - len(failures)
            say(f"{done} of {len(job_results)} done, {len(failures)} failed; records in {one_folder(results)}")
    if as_json:
        print(json.dumps(status_as_json(plan.job_list, status), indent=1, allow_nan=False))  # noqa: T201
    if mode is RunMode.only_cache:
        unfinished = [job for job in plan.jobs if status.states[job.key] != "done"]
        failures = [f"{job} has no finished record (--mode only-cache)" for job in unfinished]
    for failure in failures:
        complain(failure)
    if failures:
        raise typer.Exit(1)


@with_grid_options
def status(
    blocks: "list[GridBlock] | None",
    results: Results = DEFAULT_FOLDERS,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Count the runs of a grid by their state.

    A run is done, running, failed, missing or not applicable. This runs nothing.

    Without options, the grid is that of the last sweep in the results folder, which may still run.

    \b
    Examples:
      python -m benchmark status
      python -m benchmark status --results results/reference --protocols distill-same --methods refilled,ce --seeds 0-2
    """
    from benchmark.display.sweep_table import print_status, status_as_json
    from benchmark.sweep.execution import plan_sweep, read_last_grid
    from benchmark.sweep.executors.base import SweepConfig

    if blocks is None:
        blocks = read_last_grid(one_folder(results))
    plan = plan_sweep(blocks, SweepConfig(one_folder(results), data_root(data)), planning_progress(as_json))
    if as_json:
        print(json.dumps(status_as_json(plan.job_list, plan.status), indent=1, allow_nan=False))  # noqa: T201
    else:
        print_status(plan.job_list, plan.status)


def split_names(texts: list[str] | None) -> tuple[str, ...] | None:
    """Split repeated options with commas into names; None if the option was not given."""
    if not texts:
        return None
    names = [name.strip() for text in texts for name in text.split(",")]
    if not all(names):
        raise InputError(f"{','.join(texts)!r} is no list of names such as ce,refilled")
    return tuple(dict.fromkeys(names))


def planning_progress(silent: bool) -> "Progress":
    """Return what shows the opening of data sets, and raises at a stop signal."""
    from benchmark.display.progress_bar import Bar
    from benchmark.system.interrupts import stop_requested
    from benchmark.system.progress import InterruptibleProgress, Silent

    return InterruptibleProgress(Silent() if silent else Bar(), stopped=stop_requested)
