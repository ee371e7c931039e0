"""Commands on many runs."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli import completion
from benchmark.cli.options import DEFAULT_RESULTS, CheckpointEvery, Data, Device, Results, complain, data_root
from benchmark.cli.run import RunMode
from benchmark.errors import InputError

if TYPE_CHECKING:
    from benchmark.sweep.executors.base import Executor, Setting
    from benchmark.sweep.grid import GridBlock, Resources
    from benchmark.sweep.jobs import Cells

_GRID = ".grid.yaml"
"""The last grid of a folder of results, for ``status``."""


class Where(StrEnum):
    """What carries a sweep out."""

    serial = "serial"
    local = "local"
    slurm = "slurm"


Protocols = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAMES",
        autocompletion=completion.listed(completion.protocols),
        help="Protocols, as distill-same,fewshot-5way1shot; repeatable.",
    ),
]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAMES",
        autocompletion=completion.listed(completion.methods, "all"),
        help="Methods, as refilled,ce; `all` is every one that applies [default: all].",
    ),
]
Datasets = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAMES", autocompletion=completion.listed(completion.datasets), help="Data sets [default: glyphs]."
    ),
]
Seeds = Annotated[str | None, typer.Option(help="Seeds: 3 or 0,1,2 or 0-4 [default: 0].")]
Preset = Annotated[
    str | None,
    typer.Option(autocompletion=completion.presets, help="Named settings: quick or paper [default: quick]."),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.NAME=VALUE",
        help="Change a setting of every run; repeatable. teacher.seed=run: each run has the teacher of its own seed.",
    ),
]
LimitSteps = Annotated[int | None, typer.Option(metavar="N", help="Train for N steps only (smoke runs).")]
Grid = Annotated[
    Path | None,
    typer.Option("--grid", metavar="FILE", help="YAML with a list of blocks, in place of the options above."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print a summary alone, as JSON.")]


def sweep(
    protocols: Protocols = None,
    methods: Methods = None,
    datasets: Datasets = None,
    seeds: Seeds = None,
    preset: Preset = None,
    set_: Set = None,
    limit_steps: LimitSteps = None,
    grid: Grid = None,
    executor: Annotated[Where, typer.Option(help="One after the other, in workers here, or on SLURM.")] = Where.local,
    jobs: Annotated[
        int | None,
        typer.Option(
            "-j", "--jobs", min=1, metavar="N", help="Runs at a time [default: one per GPU, else 2; on SLURM 16]."
        ),
    ] = None,
    mode: Annotated[RunMode, typer.Option(help="Which runs to carry out; as for `run`.")] = RunMode.missing,
    retries: Annotated[
        int, typer.Option(min=0, metavar="N", help="How often a run whose process was killed is given to a new one.")
    ] = 2,
    device: Device = "auto",
    results: Results = DEFAULT_RESULTS,
    data: Data = None,
    checkpoint_every: CheckpointEvery = 60.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is done, missing and not applicable; carry out nothing.")
    ] = False,
    as_json: AsJson = False,
    slurm_partition: Annotated[str | None, typer.Option(metavar="NAME", help="Partition of the jobs.")] = None,
    slurm_account: Annotated[
        str | None, typer.Option(metavar="NAME", help="Account that the jobs are put down to.")
    ] = None,
    slurm_time: Annotated[
        int | None,
        typer.Option(min=1, metavar="MINUTES", help="Time limit; a run cut off goes on [default: 60]."),
    ] = None,
    slurm_gpus: Annotated[int | None, typer.Option(min=0, metavar="N", help="GPUs of a job.")] = None,
    slurm_cpus: Annotated[int | None, typer.Option(min=1, metavar="N", help="Cores of a job [default: 1].")] = None,
    slurm_memory: Annotated[int | None, typer.Option(min=1, metavar="GIB", help="Memory of a job.")] = None,
) -> None:
    """Carry out every run of a grid that is not done yet: each protocol with each method, data set and seed.

    A grid file is a list of blocks with the same names: protocols, methods, datasets, seeds, preset, set, limit_steps,
    slurm. A failure does not stop the rest. Stopped, the same command goes on; several may share a results folder.

    \b
    Examples:
      python -m benchmark sweep --protocols distill-same,distill-cross --methods refilled,ce --seeds 0-4 -j 2
      python -m benchmark sweep --grid grid.yaml --dry-run
    """
    from benchmark.sweep.grid import Resources

    resources = Resources(slurm_partition, slurm_account, slurm_time, slurm_gpus, slurm_cpus, slurm_memory)
    if executor is not Where.slurm and resources != Resources():
        raise InputError("the options --slurm-... go with --executor slurm")
    blocks = _blocks(protocols, methods, datasets, seeds, preset, set_, limit_steps, grid)
    if blocks is None:
        raise InputError("name what to run: --protocols, with --methods, --datasets and --seeds, or --grid FILE")
    from benchmark.display.sweep_table import Board, describe, estimate, print_survey
    from benchmark.records.store import Store
    from benchmark.sweep.execution import Quiet, carry_out, to_do
    from benchmark.sweep.executors.base import Setting
    from benchmark.sweep.grid import write_grid
    from benchmark.sweep.jobs import survey
    from benchmark.training import select_device

    select_device(device)
    store, root = Store(results), data_root(data)
    planned = planned_cells(blocks, root, as_json)
    found = survey(planned.cells, store)
    todo = to_do(planned.cells, found, mode.value)
    lanes = jobs or usual_jobs(executor, device)
    if not as_json:
        print_survey(planned, found)
        print(estimate(todo, found.seconds, lanes) if todo else "nothing to do")  # noqa: T201
    failures: list[str] = []
    if todo and not dry_run:
        store.check_writable()
        write_grid(results / _GRID, blocks)
        setting = Setting(results.resolve(), root.resolve(), device, mode.value, checkpoint_every)
        chosen = executor_for(executor, setting, min(lanes, len(todo)), retries, resources)
        if as_json:
            came = carry_out(todo, chosen, Quiet())
        else:
            with Board(todo, found.seconds, lanes) as board:
                came = carry_out(todo, chosen, board)
        failures = [f"{cell} failed: {outcome.error}" for cell, outcome in came if outcome.status == "failed"]
        found = survey(planned.cells, store)
        if not as_json:
            print(f"{len(came) - len(failures)} of {len(came)} done, {len(failures)} failed; records in {results}")  # noqa: T201
    if as_json:
        print(json.dumps(describe(planned, found), indent=1, allow_nan=False))  # noqa: T201
    if mode is RunMode.only_cache:
        absent = [cell for cell in planned.cells if found.states[cell.key] != "done"]
        failures = [f"{cell} has no finished record (--mode only-cache)" for cell in absent]
    for failure in failures:
        complain(failure)
    if failures:
        raise typer.Exit(1)


def status(
    protocols: Protocols = None,
    methods: Methods = None,
    datasets: Datasets = None,
    seeds: Seeds = None,
    preset: Preset = None,
    set_: Set = None,
    limit_steps: LimitSteps = None,
    grid: Grid = None,
    results: Results = DEFAULT_RESULTS,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Say how the cells of a grid stand: done, running, failed, missing, not applicable. Carries out nothing.

    Without options: of the last sweep that was begun in the results folder, which may be going on.

    \b
    Examples:
      python -m benchmark status
      python -m benchmark status --results results/reference --protocols distill-same --methods refilled,ce --seeds 0-2
    """
    from benchmark.display.sweep_table import describe, print_survey
    from benchmark.records.store import Store
    from benchmark.sweep.grid import read_grid
    from benchmark.sweep.jobs import survey

    blocks = _blocks(protocols, methods, datasets, seeds, preset, set_, limit_steps, grid)
    if blocks is None:
        if not (results / _GRID).exists():
            raise InputError(f"no sweep was begun in {results}; name its --results DIR, or --protocols or --grid FILE")
        blocks = read_grid(results / _GRID)
    planned = planned_cells(blocks, data_root(data), as_json)
    found = survey(planned.cells, Store(results))
    if as_json:
        print(json.dumps(describe(planned, found), indent=1, allow_nan=False))  # noqa: T201
    else:
        print_survey(planned, found)


def _blocks(
    protocols: list[str] | None,
    methods: list[str] | None,
    datasets: list[str] | None,
    seeds: str | None,
    preset: str | None,
    settings: list[str] | None,
    limit_steps: int | None,
    grid: Path | None,
) -> list[GridBlock] | None:
    """The blocks of the options or of the file; None where neither is given."""
    from benchmark.settings import parse_seeds
    from benchmark.sweep.grid import GridBlock, read_grid

    given = {
        "protocols": names_of(protocols),
        "methods": names_of(methods),
        "datasets": names_of(datasets),
        "seeds": tuple(parse_seeds(seeds)) if seeds is not None else None,
        "preset": preset,
        "set": tuple(settings) if settings else None,
        "limit_steps": limit_steps,
    }
    named = {name: value for name, value in given.items() if value is not None}
    if grid is not None:
        if named:
            option = next(iter(named)).replace("_", "-")
            raise InputError(f"give --grid or the options, not both; --{option} can stand in the file")
        return read_grid(grid)
    if not named:
        return None
    if "protocols" not in named:
        raise InputError("name the protocols with --protocols, as --protocols distill-same,fewshot-5way1shot")
    return [GridBlock(**named)]  # type: ignore[arg-type]


def names_of(given: list[str] | None) -> tuple[str, ...] | None:
    """Names out of repeated options with commas; None where nothing was given."""
    if not given:
        return None
    names = [name.strip() for text in given for name in text.split(",")]
    if not all(names):
        raise InputError(f"{','.join(given)!r} is no list of names such as ce,refilled")
    return tuple(dict.fromkeys(names))


def planned_cells(blocks: list[GridBlock], root: Path, silent: bool) -> Cells:
    """The cells of blocks, under a bar; ``InputError`` where nothing applies."""
    from benchmark.display.progress_bar import Bar
    from benchmark.sweep.jobs import plan_cells
    from benchmark.system import interrupts
    from benchmark.system.progress import InterruptibleProgress, Silent

    planned = plan_cells(
        blocks, root, InterruptibleProgress(Silent() if silent else Bar(), stopped=interrupts.stop_requested)
    )
    if not planned.cells:
        raise InputError(f"nothing of it applies: {planned.excluded[0].reason}")
    return planned


def usual_jobs(where: Where, device: str) -> int:
    """How many runs go on at a time where the user has not said."""
    if where is Where.serial:
        return 1
    if where is Where.slurm:
        return 16
    from benchmark.sweep.executors.local import usable_cores, visible_gpus

    gpus = len(visible_gpus()) if device in ("auto", "cuda") else 0
    return gpus or min(2, usable_cores())


def executor_for(
    where: Where, setting: Setting, lanes: int, retries: int = 2, resources: Resources | None = None
) -> Executor:
    """What carries runs out, so many at a time."""
    if where is Where.serial:
        from benchmark.sweep.executors.serial import Serial

        return Serial(setting)
    if where is Where.local:
        from benchmark.sweep.executors.local import Local

        return Local(setting, lanes, retries=retries)
    from benchmark.sweep.executors.slurm import Slurm
    from benchmark.sweep.grid import Resources

    return Slurm(setting, lanes, retries=retries, resources=resources or Resources())
