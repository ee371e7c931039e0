"""The command ``list``."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmark.cli import completion
from benchmark.cli.recipes import recipe_rows
from benchmark.errors import InputError

if TYPE_CHECKING:
    from benchmark.registry import Registry


class Kind(StrEnum):
    """What ``list`` lists."""

    protocols = "protocols"
    methods = "methods"
    datasets = "datasets"
    backbones = "backbones"
    teachers = "teachers"
    recipes = "recipes"


def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    protocol: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.protocols,
            help="For methods: say which apply to this protocol, and why others do not.",
        ),
    ] = None,
) -> None:
    """List the names that other commands take.

    One line each for protocols, methods, data sets, backbones, pretrained teachers or recipes.

    \b
    Examples:
      python -m benchmark list protocols
      python -m benchmark list methods --protocol distill-cross
    """
    if protocol is not None and kind is not Kind.methods:
        raise InputError("--protocol goes with `list methods`")
    from benchmark.display.tables import print_table

    if kind is Kind.recipes:
        print_table("recipes", ["name", "what it is"], recipe_rows())
        return
    registry = _registry(kind)
    rows = [[name, registry.help(name)] for name in registry.display_names()]
    columns = ["name", "what it is"]
    if protocol is not None:
        for row in rows:
            row.insert(1, _applicability(row[0], protocol))
        columns.insert(1, protocol)
    print_table(kind.value, columns, rows)


def _applicability(method: str, protocol: str) -> str:
    """Say whether a method applies to a protocol, and if not, why."""
    from benchmark.experiment.planning import transfer_context
    from benchmark.methods import METHODS

    if not METHODS.usable(method):
        return "cannot be used"
    entry = METHODS.get(method).entry
    reason = entry.skip_reason(transfer_context(protocol, entry))
    return "applies" if reason is None else f"does not apply: {reason}"


def _registry(kind: Kind) -> Registry[Any]:
    if kind is Kind.protocols:
        from protocols import PROTOCOLS

        return PROTOCOLS
    if kind is Kind.methods:
        from benchmark.methods import METHODS

        return METHODS
    if kind is Kind.datasets:
        from benchmark.data import DATASETS

        return DATASETS
    from benchmark.backbones import BACKBONES, PRETRAINED

    return BACKBONES if kind is Kind.backbones else PRETRAINED
