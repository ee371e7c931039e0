"""The command ``show``: a run, a method or a recipe."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from benchmark.cli import completion
from benchmark.cli.options import DEFAULT_FOLDERS, Results, complain, one_folder
from benchmark.cli.recipes import show_recipe
from benchmark.display.console import say
from benchmark.errors import InputError


def show(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RUN | method | recipe",
            autocompletion=completion.shown,
            help="File or key of a run, or the word method or recipe.",
        ),
    ],
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", autocompletion=completion.shown_names, help="After `method` or `recipe`: its name."
        ),
    ] = None,
    results: Results = DEFAULT_FOLDERS,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole record as JSON.")] = False,
) -> None:
    """Show a run, a method or a recipe.

    Of a run this prints the measured values, settings and environment.

    A recipe is shown with its published numbers and those measured in the results folder. RUN is the file of a record,
    its key, or the first characters of its key, as at the end of the file name.

    \b
    Examples:
      python -m benchmark show method refilled
      python -m benchmark show recipe refilled-cvpr20-cifar100
      python -m benchmark show f7dc95105cbe --results results/reference
    """
    from benchmark.records.store import Store

    store = Store(one_folder(results))
    if what in ("method", "recipe"):
        if name is None:
            raise InputError(f"show {what} takes a name; see `list {what}s`")
        if what == "method":
            _show_method(name)
        else:
            records, damaged = store.read() if store.root.is_dir() else ([], [])
            show_recipe(name, records)
            for error in damaged:
                complain(str(error))
        return
    if name is not None:
        raise InputError(f"show takes a run, or `method` or `recipe` and a name; got {what} {name}")
    from benchmark.display.tables import print_run
    from benchmark.experiment.labels import label_of

    record = store.resolve(what)
    if as_json:
        print(json.dumps(record, indent=1, allow_nan=False))  # noqa: T201
    else:
        print_run({**record, "preset": label_of(record)})


def _show_method(name: str) -> None:
    from benchmark.display.tables import print_table
    from benchmark.methods import METHODS
    from benchmark.methods.description import describe
    from protocols.tuned_settings import tuned_protocols, tuned_settings

    text, settings, needs, stages = describe(METHODS.get(name).entry)
    say(text)
    print_table(f"\n{name}: settings", ["method.", "type", "default"], settings)
    print_table("\nrequirements", ["what", "value"], needs)
    print_table("\nstages", ["name", "share of steps", "head", "last rate"], stages)
    tuned = [
        [protocol, ", ".join(f"{section}.{n}={v}" for section, part in chosen.items() for n, v in part.items())]
        for protocol in tuned_protocols()
        if (chosen := tuned_settings(protocol, name)) is not None
    ]
    if tuned:
        print_table(
            "\ntuned: the preset quick of these protocols, and of their relatives", ["protocol", "settings"], tuned
        )
