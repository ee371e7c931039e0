"""The command ``tune``, which chooses settings."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli import completion
from benchmark.cli.options import CheckpointEvery, Data, Device, complain, data_root, one_folder
from benchmark.cli.sweep import Jobs, planning_progress, split_names
from benchmark.display.console import say

if TYPE_CHECKING:
    from benchmark.sweep.tuning import Choice

_FOLDERS = [Path("results/tuning")]


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
        int, typer.Option(min=2, metavar="N", help="Trials of every method; the first is the defaults.")
    ] = 8,
    seeds: Annotated[str, typer.Option(help="Seeds of the trials; those below 1000 are for reported runs.")] = "1000",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for the choice and the log [default: `tuned` in that of --results]."),
    ] = None,
    jobs: Jobs = None,
    device: Device = "auto",
    results: Annotated[
        list[Path],
        typer.Option("--results", metavar="DIR", help="Folder of the trials' records; finished runs are reused."),
    ] = _FOLDERS,
    data: Data = None,
    checkpoint_every: CheckpointEvery = 60.0,
    limit_steps: Annotated[int | None, typer.Option(metavar="N", help="Train for N steps only (smoke runs).")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the trials and how long they may take; run nothing.")
    ] = False,
) -> None:
    """Choose settings on validation data.

    Every method has the same number of trials.

    The search covers the learning rate and the weights that a method declares. The choice is a file of settings, which
    later runs and sweeps use with `--preset FILE.toml`. After an interruption the same command resumes.

    \b
    Examples:
      python -m benchmark tune --protocol distill-cross --method refilled,rkd,ce -j 2
      python -m benchmark tune --protocol distill-cross --method all --dry-run
    """
    from benchmark.display.sweep_table import SweepTable, skip_lines, time_estimate
    from benchmark.display.tables import print_table
    from benchmark.settings import parse_seeds
    from benchmark.sweep import tuning
    from benchmark.sweep.execution import ExecutorConfig, default_n_jobs
    from benchmark.sweep.executors.base import SweepConfig

    names = split_names(datasets) or ("glyphs", "emoji")
    folder = one_folder(results)
    config = SweepConfig(folder.resolve(), data_root(data).resolve(), device, "missing", checkpoint_every)
    plan = tuning.plan_tuning(
        protocol, split_names(method) or (), names, parse_seeds(seeds),
        trials=trials, config=config, progress=planning_progress(silent=False), limit_steps=limit_steps,
    )  # fmt: skip
    rows = [list(map(str, row)) for row in plan.summary()]
    print_table(protocol, ["method", "trials", "runs", "done", "tuned settings"], rows)
    for line in skip_lines(plan.sweep.job_list.skipped):
        say(line)
    n_jobs, expected = jobs or default_n_jobs("local", device), plan.sweep.status.seconds
    say(time_estimate(plan.sweep.selected, expected, n_jobs))
    if dry_run:
        return
    with SweepTable(plan.sweep.selected, expected, n_jobs) as table:
        job_results = tuning.run_trials(plan, ExecutorConfig("local", n_jobs), table)
    for job, outcome in job_results:
        if outcome.status == "failed":
            complain(f"{job} ({' '.join(job.request.overrides)}) failed: {outcome.error}")
    choices = tuning.choose(plan)
    tuned = [choice for choice in choices if choice.best is not None]
    for choice in choices:
        if choice.best is None:
            complain(f"{choice.method}: every trial has a run that failed; see the errors above")
    if tuned:
        settings_path, log_path = tuning.save_choices(protocol, tuned, folder / "tuned" if out is None else out)
        columns = ["method", "trial", "settings", "score %", "defaults %"]
        print_table(f"{protocol}: chosen on validation data", columns, [_choice_row(choice) for choice in tuned])
        say(f"settings in {settings_path}, every trial in {log_path}")
        words = ["--protocol", protocol, "--method", tuned[0].method, "--dataset", names[0], "--preset"]
        say(f"to use them: python -m benchmark run {shlex.join([*words, str(settings_path)])}")
    if len(tuned) < len(choices):
        raise typer.Exit(1)


def _choice_row(choice: Choice) -> list[str]:
    from benchmark.display.format import percent

    best = choice.best
    assert best is not None
    settings = " ".join(f"{name}={value:g}" for name, value in best.trial.values.items())
    return [choice.method, str(best.trial.number), settings, percent(best.mean), percent(choice.results[0].mean)]
