"""The command ``verify``."""

from __future__ import annotations

from typing import Annotated

import typer

from benchmark.cli import completion
from benchmark.cli.options import DEFAULT_FOLDERS, Data, Device, Offline, Results, data_root, one_folder
from benchmark.display.console import say
from benchmark.system import interrupts


def verify(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            autocompletion=completion.runs,
            help="File or key of a run, or the first characters of its key.",
        ),
    ],
    results: Results = DEFAULT_FOLDERS,
    data: Data = None,
    device: Device = "auto",
    teacher: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.teachers,
            help="Weights file of a pretrained teacher: a record holds its hash, not its path.",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.datasets,
            help="Data set, as folder:PATH, if the images of your own folder are not imported here.",
        ),
    ] = None,
    fresh_teacher: Annotated[
        bool, typer.Option("--fresh-teacher", help="Train the teacher again instead of loading the stored one.")
    ] = False,
    offline: Offline = False,
) -> None:
    """Repeat a run and compare it bit for bit.

    This prints whether all results are equal, or what differs.

    Nothing is saved. Exit status: 0 if everything is equal, 1 if something differs.

    \b
    Examples:
      python -m benchmark verify f7dc95105cbe --results results/reference
      python -m benchmark verify f7dc95105cbe --results results/reference --fresh-teacher
      python -m benchmark verify 4be61a02 --dataset folder:/scratch/photos
    """
    from benchmark.display.progress_bar import Bar
    from benchmark.experiment.verification import reproduce
    from benchmark.records.store import Store
    from benchmark.system.progress import InterruptibleProgress

    store = Store(one_folder(results))
    record = store.resolve(run)
    progress = InterruptibleProgress(Bar(), stopped=interrupts.stop_requested)
    reproduction = reproduce(
        record, store.arrays(record), data_root(data), device, progress, teacher=teacher, dataset=dataset,
        fresh_teacher=fresh_teacher,
    )  # fmt: skip
    for line in reproduction.lines:
        say(line)
    if not reproduction.equal:
        raise typer.Exit(1)
