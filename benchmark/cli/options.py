"""Options and messages that commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from benchmark.display.console import say
from benchmark.errors import InputError
from benchmark.system.network import offline

DEFAULT_RESULTS = Path("results/runs")
DEFAULT_FOLDERS = [DEFAULT_RESULTS]

Results = Annotated[list[Path], typer.Option("--results", metavar="DIR", help="Folder of records.")]
"""One folder, see ``one_folder``."""
ResultsFolders = Annotated[
    list[Path],
    typer.Option("--results", metavar="DIR", help="Folder of records; repeatable, they are read together."),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        envvar="BENCHMARK_DATA",
        help="Folder of data sets and trained teachers [default: user cache].",
    ),
]


def _go_offline(context: typer.Context, requested: bool) -> bool:
    if requested:
        context.with_resource(offline())
    return requested


Offline = Annotated[
    bool,
    typer.Option("--offline", callback=_go_offline, help="Refuse all network access."),
]
"""Option of all commands that may reach the network. It takes effect by itself; commands need not pass it on."""

CheckpointEvery = Annotated[
    float,
    typer.Option(min=0, metavar="SECONDS", help="Seconds between checkpoints, from which an interrupted run resumes."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]


class OnceCommand(TyperCommand):
    """A command that refuses an option given twice, of which only the last would count."""

    def parse_args(self, context: Any, words: list[str]) -> list[str]:
        """Parse the words of a command line."""
        if not context.resilient_parsing:
            _, _, order = self.make_parser(context).parse_args(args=list(words))
            for option in order:
                once = option.param_type_name == "option" and not option.multiple
                if once and order.count(option) > 1:
                    raise InputError(f"{option.opts[0]} is given {order.count(option)} times, and takes one value")
        return super().parse_args(context, words)


Command = TypeVar("Command", bound=Callable[..., None])


def enter(app: typer.Typer, name: str) -> Callable[[Command], Command]:
    """Return a decorator that makes a function the command ``name``; the examples of its docstring end its help."""

    def add(function: Command) -> Command:
        text, mark, examples = (inspect.getdoc(function) or "").partition("\b\nExample")
        return app.command(name, cls=OnceCommand, help=text, epilog=mark + examples)(function)

    return add


def one_folder(results: list[Path]) -> Path:
    """Return the only folder of ``--results``.

    Raises:
        InputError: the option was given several times.
    """
    if len(results) > 1:
        raise InputError(f"--results is given {len(results)} times; this command takes one folder")
    return results[0]


def data_root(folder: Path | None) -> Path:
    """Return the folder, or the default data folder if it is None."""
    from benchmark.data.published import default_data_root

    return folder if folder is not None else default_data_root()


def tell(message: str) -> None:
    """Print a line on standard error."""
    say(message, error=True)


def complain(message: str) -> None:
    """Print an error as one line on standard error."""
    tell("error: " + " ".join(message.split()))
