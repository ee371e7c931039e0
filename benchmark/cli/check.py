"""Commands for authors of methods, data sets, backbones and protocols."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli import completion
from benchmark.cli.options import Data, Offline, data_root, enter, tell

if TYPE_CHECKING:
    from benchmark.checks.check import CheckResult

app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    help="Write a plug-in package to start from.",
    epilog="""\b
    Example:
      python -m benchmark new method my-method
    """,
)


class EntryKind(StrEnum):
    """The kinds of entries that ``check`` accepts."""

    method = "method"
    dataset = "dataset"
    backbone = "backbone"
    protocol = "protocol"


def check(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME | FILE.py",
            autocompletion=completion.everything,
            help="A method, data set, backbone or protocol by name, or a file that holds one.",
        ),
    ],
    kind: Annotated[EntryKind | None, typer.Option(help="The kind, if entries of several kinds have the name.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="SECTION.NAME=VALUE", help="Change a setting of the runs that checks make; repeatable."
        ),
    ] = None,
    data: Data = None,
    offline: Offline = False,
) -> None:
    """Check a plug-in or a built-in entry.

    This prints one line per check: pass, or FAIL with the reason. A check that would tell the same fault again is not
    tried.

    Exits with 0 if all checks pass, else with 1. Trains tiny networks for a few steps and keeps no files.

    \b
    Examples:
      python -m benchmark check refilled
      python -m benchmark check path/to/my_method.py
      python -m benchmark check conv4-16 --kind backbone
    """
    from benchmark.checks import candidate, suite_of
    from benchmark.display.tables import print_table

    with candidate(name, kind.value if kind else None, data_root(data), tuple(set_ or ())) as entry:
        results = list(suite_of(entry.kind).run(entry))
    rows = [
        [_verdict(result), result.check.description, " ".join((result.failure or "").split())] for result in results
    ]
    print_table(f"{entry.kind} {entry.name}", ["", "check", "reason"], rows)
    failures = sum(result.tried and result.failure is not None for result in results)
    untried = sum(not result.tried for result in results)
    passed = len(results) - failures - untried
    tell(f"{passed} of {len(results)} checks passed" + (f", {untried} not tried" if untried else ""))
    if failures:
        raise typer.Exit(1)


def _verdict(result: CheckResult) -> str:
    if not result.tried:
        return "not tried"
    return "pass" if result.failure is None else "FAIL"


@enter(app, "method")
def method(
    name: Annotated[str, typer.Argument(help="Name of the method, such as my-method.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to create [default: the name of the method].")
    ] = None,
) -> None:
    """Write a package with a working method.

    It has an entry point and a test that runs all checks.

    \b
    Examples:
      python -m benchmark new method my-method
      python -m benchmark new method my-method --out ~/research/my-method
    """
    from benchmark.scaffold.write import write_method
    from benchmark.system.optional_packages import install_command

    folder = write_method(name, out or Path(name))
    for path in sorted(folder.rglob("*.*")):
        tell(f"wrote {path}")
    tell(f"next: {install_command(f'-e {shlex.quote(str(folder))}')} && python -m benchmark check {name}")
