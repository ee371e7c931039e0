"""Commands for who adds a method, a data set, a backbone or a protocol."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli import completion
from benchmark.cli.options import Data, Offline, data_root, enter, tell

app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    help="Write the beginnings of a package that adds something to the suite.",
    epilog="""\b
    Example:
      python -m benchmark new method my-method
    """,
)


class Kind(StrEnum):
    """What ``check`` checks."""

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
    kind: Annotated[Kind | None, typer.Option(help="Which, where the name is of several kinds.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="SECTION.NAME=VALUE", help="Change a setting of the runs that are tried; repeatable."
        ),
    ] = None,
    data: Data = None,
    offline: Offline = False,
) -> None:
    """Check that an entry keeps to the rules of its kind, built-in or a plug-in; pass or fail for each rule.

    Exit 0 where all rules are kept, 1 where one is not. Trains tiny networks for a few steps and keeps nothing.

    \b
    Examples:
      python -m benchmark check refilled
      python -m benchmark check path/to/my_method.py
      python -m benchmark check conv4-16 --kind backbone
    """
    from benchmark.checks import contract_of, subject
    from benchmark.display.tables import print_table

    with subject(name, kind.value if kind else None, data_root(data), tuple(set_ or ())) as (found, checked):
        verdicts = list(contract_of(found).verdicts(checked))
    rows = [["pass" if v.reason is None else "FAIL", v.rule, " ".join((v.reason or "").split())] for v in verdicts]
    print_table(f"{found} {checked.name}", ["", "rule", "reason"], rows)
    broken = sum(v.reason is not None for v in verdicts)
    tell(f"{len(verdicts) - broken} of {len(verdicts)} rules kept")
    if broken:
        raise typer.Exit(1)


@enter(app, "method")
def method(
    name: Annotated[str, typer.Argument(help="Of the method, as my-method.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to make [default: one of that name here].")
    ] = None,
) -> None:
    """Write a small package with a method that works: an entry point, the method, and a test that checks it.

    \b
    Examples:
      python -m benchmark new method my-method
      python -m benchmark new method my-method --out ~/research/my-method
    """
    from benchmark.scaffold.write import write_method

    folder = write_method(name, out or Path(name))
    for path in sorted(folder.rglob("*.*")):
        tell(f"wrote {path}")
    tell(f"next: python -m pip install -e {folder} && python -m benchmark check {name}")
