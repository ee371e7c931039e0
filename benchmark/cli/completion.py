"""Shell completion: each function returns all names, and typer keeps those that match.

A shell waits for the answer, so nothing here imports a slow package.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import typer

from benchmark.cli.options import DEFAULT_RESULTS
from benchmark.errors import InputError


def protocols() -> list[str]:
    """Return the names of protocols; names with numbers are represented by examples."""
    from protocols import PROTOCOLS

    return PROTOCOLS.names()


def methods() -> list[str]:
    """Return the names of methods."""
    from benchmark.methods import METHODS

    return METHODS.names()


def datasets() -> list[str]:
    """Return the names of data sets."""
    from benchmark.data import DATASETS

    return DATASETS.names()


def backbones() -> list[str]:
    """Return the names of backbones."""
    from benchmark.backbones import BACKBONES

    return BACKBONES.names()


def teachers() -> list[str]:
    """Return the names of backbones and pretrained teachers."""
    from benchmark.backbones import PRETRAINED

    return [*backbones(), *PRETRAINED.names()]


def recipes() -> list[str]:
    """Return the names of recipes."""
    from benchmark.recipes.recipe import recipe_names

    return recipe_names()


def presets(context: typer.Context) -> list[str]:
    """Return the presets of the protocol on the line, or those of all protocols if the line names none."""
    from protocols import PROTOCOLS

    try:
        return list(PROTOCOLS.get(context.params.get("protocol") or "").entry.presets)
    except InputError:
        return ["quick", "paper"]


def everything() -> list[str]:
    """Return all names that ``check`` takes."""
    return [*methods(), *datasets(), *backbones(), *protocols()]


def runs(context: typer.Context) -> list[str]:
    """Return the short keys of the runs in the results folder, from the names of their files."""
    from benchmark.records.packs import packed_keys

    folder = Path((context.params.get("results") or [DEFAULT_RESULTS])[0])
    return sorted({path.stem.rpartition(".")[2] for path in folder.glob("*.json")} | packed_keys(folder))


def shown(context: typer.Context) -> list[str]:
    """Return the first arguments of ``show``."""
    return ["method", "recipe", *runs(context)]


def shown_names(context: typer.Context) -> list[str]:
    """Return the second arguments of ``show``."""
    return {"method": methods, "recipe": recipes}.get(context.params.get("what", ""), list[str])()


def listed(names: Callable[[], list[str]], *more: str) -> Callable[[str], list[str]]:
    """Return a completer of comma-separated names."""

    def complete(incomplete: str) -> list[str]:
        before, comma, _ = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in (*more, *names())]

    return complete
