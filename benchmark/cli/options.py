"""What commands have in common: options, and messages on standard error."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from benchmark.system.network import offline

DEFAULT_RESULTS = Path("results/runs")

Results = Annotated[Path, typer.Option("--results", metavar="DIR", help="Folder of records.")]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        envvar="BENCHMARK_DATA",
        help="Folder of data sets and trained teachers [default: user cache].",
    ),
]


def _go_offline(context: typer.Context, asked: bool) -> bool:
    if asked:
        context.with_resource(offline())
    return asked


Offline = Annotated[
    bool,
    typer.Option(
        "--offline", callback=_go_offline, help="Ask nothing of the network: whatever would is refused, in one line."
    ),
]
"""Of every command that might reach the network. It holds for all that the command does, and need not be passed on."""

CheckpointEvery = Annotated[
    float,
    typer.Option(min=0, metavar="SECONDS", help="How often to keep a training on the way; a run goes on from there."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]


Command = TypeVar("Command", bound=Callable[..., None])


def enter(app: typer.Typer, name: str) -> Callable[[Command], Command]:
    """Decorator that makes a function the command ``name``. The examples that end its docstring end its help."""

    def add(function: Command) -> Command:
        text, mark, examples = (inspect.getdoc(function) or "").partition("\b\nExample")
        return app.command(name, help=text, epilog=mark + examples)(function)

    return add


def data_root(given: Path | None) -> Path:
    """The folder named, else the user's cache folder."""
    from benchmark.data.published import default_data_root

    return given if given is not None else default_data_root()


def tell(message: str) -> None:
    """A line on standard error."""
    print(message, file=sys.stderr)  # noqa: T201


def complain(message: str) -> None:
    """An error in one line on standard error."""
    tell("error: " + " ".join(message.split()))
