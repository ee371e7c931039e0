"""The command that chooses settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli import completion
from benchmark.cli.options import CheckpointEvery, Data, Device, complain, data_root
from benchmark.cli.sweep import Where, executor_for, names_of, planned_cells, usual_jobs
from benchmark.errors import InputError


def tune(
    protocol: Annotated[
        str,
        typer.Option(autocompletion=completion.protocols, help="Protocol, as distill-cross; see `list protocols`."),
    ],
    method: Annotated[
        list[str],
        typer.Option(
            metavar="NAMES",
            autocompletion=completion.listed(completion.methods, "all"),
            help="Methods, as refilled,rkd; `all` is every one that applies.",
        ),
    ],
    datasets: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            autocompletion=completion.listed(completion.datasets),
            help="Data sets, over which scores are averaged [default: glyphs,emoji].",
        ),
    ] = None,
    trials: Annotated[
        int, typer.Option(min=2, metavar="N", help="Trials of every method, the defaults among them.")
    ] = 8,
    seeds: Annotated[
        str, typer.Option(help="Seeds of the trials; those below 1000 are for what is reported.")
    ] = "1000",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where to write the choice and the log [default: among the suite's own presets]."
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("-j", "--jobs", min=1, metavar="N", help="Runs at a time; as for `sweep`.")
    ] = None,
    device: Device = "auto",
    results: Annotated[
        Path, typer.Option("--results", metavar="DIR", help="Folder of the trials' records; finished ones count.")
    ] = Path("results/tuning"),
    data: Data = None,
    checkpoint_every: CheckpointEvery = 60.0,
    limit_steps: Annotated[
        int | None, typer.Option(metavar="N", help="Train for N steps only (smoke runs); goes with --out.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be tried and how long it may take; try nothing.")
    ] = False,
) -> None:
    """Choose methods' settings on validation data, with as many trials for every method.

    Searched are the learning rate and the weights that a method declares. The choice completes the preset `quick` of
    protocol and method: later runs take it by themselves. Stopped, the same command goes on.

    \b
    Examples:
      python -m benchmark tune --protocol distill-cross --method refilled,rkd,ce -j 2
      python -m benchmark tune --protocol distill-cross --method all --dry-run
    """
    from benchmark.display.sweep_table import Board, estimate, reasons
    from benchmark.display.tables import print_table
    from benchmark.methods import METHODS
    from benchmark.records.store import Store
    from benchmark.settings import parse_seeds
    from benchmark.sweep import tuning
    from benchmark.sweep.execution import carry_out, to_do
    from benchmark.sweep.executors.base import Setting
    from benchmark.sweep.jobs import survey
    from protocols import tuned_settings

    numbers = parse_seeds(seeds)
    if min(numbers) < tuning.FIRST_SEED:
        raise InputError(f"--seeds {seeds}: tuning takes seeds from {tuning.FIRST_SEED} on, others are for reporting")
    if limit_steps is not None and out is None:
        raise InputError("--limit-steps makes no presets; name another folder with --out DIR")
    asked = names_of(method) or ()
    methods = [name for name in METHODS.names() if METHODS.usable(name)] if "all" in asked else asked
    folder = tuned_settings.folder() if out is None else out
    searched = [name for name in methods if tuning.space(protocol, name)]
    for name in asked:
        if name != "all" and name not in searched:
            raise InputError(f"{name} has nothing to tune: it trains nothing and declares no weight")
    found = {name: tuning.make_trials(protocol, name, trials) for name in searched}
    where = names_of(datasets) or ("glyphs", "emoji")
    blocks = [trial.block(where, numbers, limit_steps) for each in found.values() for trial in each]
    planned = planned_cells(blocks, data_root(data), silent=False)
    store = Store(results)
    state = survey(planned.cells, store)
    rows = []
    for name, each in found.items():
        mine = [cell for cell in planned.cells if cell.request.method == name]
        if mine:
            counts = len(each), len(mine), state.count(mine)["done"]
            rows.append([name, *map(str, counts), " ".join(each[0].values)])
    print_table(protocol, ["method", "trials", "runs", "done", "searched"], rows)
    for line in reasons(planned.excluded):
        print(line)  # noqa: T201
    todo = to_do(planned.cells, state, "missing")
    lanes = jobs or usual_jobs(Where.local, device)
    print(estimate(todo, state.seconds, lanes) if todo else "nothing to do")  # noqa: T201
    if dry_run:
        return
    if todo:
        store.check_writable()
        setting = Setting(results.resolve(), data_root(data).resolve(), device, "missing", checkpoint_every)
        executor = executor_for(Where.local, setting, min(lanes, len(todo)))
        with Board(todo, state.seconds, lanes) as board:
            for cell, outcome in carry_out(todo, executor, board):
                if outcome.status == "failed":
                    complain(f"{cell} ({' '.join(cell.request.overrides)}) failed: {outcome.error}")
    records = {cell.key: record for cell in planned.cells if (record := store.find(cell.key)) is not None}
    logs, rows, failed = {}, [], False
    for name, each in found.items():
        came = tuning.outcomes(each, planned.cells, records)
        if not came:
            continue  # it does not apply, which the survey has said
        try:
            chosen = tuning.best(came)
        except InputError as error:
            failed = True
            complain(f"{name}: {error}")
            continue
        logs[name] = tuning.log(came, chosen)
        trial, scores = chosen.trial, [f"{100 * outcome.mean:.2f}" for outcome in (chosen, came[0])]
        rows.append([name, str(trial.number), " ".join(f"{k}={v:g}" for k, v in trial.values.items()), *scores])
    if not logs:
        raise typer.Exit(1)
    paths = tuning.keep(protocol, logs, folder)
    print_table(
        f"{protocol}: chosen on validation data", ["method", "trial", "settings", "score %", "defaults %"], rows
    )
    print(f"settings in {paths[0]}, every trial in {paths[1]}")  # noqa: T201
    if failed:
        raise typer.Exit(1)
