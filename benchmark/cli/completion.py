"""What a shell offers on the way to a name: every function gives all names, of which those that fit are shown.

Nothing here may import what is slow: a shell waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import typer

from benchmark.cli.options import DEFAULT_RESULTS
from benchmark.errors import InputError


def protocols() -> list[str]:
    """Names of protocols, with the examples of those that hold numbers."""
    from protocols import PROTOCOLS

    return PROTOCOLS.names()


def methods() -> list[str]:
    """Names of methods."""
    from benchmark.methods import METHODS

    return METHODS.names()


def datasets() -> list[str]:
    """Names of data sets."""
    from benchmark.data import DATASETS

    return DATASETS.names()


def backbones() -> list[str]:
    """Names of backbones."""
    from benchmark.backbones import BACKBONES

    return BACKBONES.names()


def teachers() -> list[str]:
    """Names of backbones and of pretrained teachers."""
    from benchmark.backbones import PRETRAINED

    return [*backbones(), *PRETRAINED.names()]


def recipes() -> list[str]:
    """Names of recipes."""
    from benchmark.recipes.recipe import recipe_names

    return list(recipe_names())


def presets(context: typer.Context) -> list[str]:
    """Presets of the protocol that stands before on the line, else those that every protocol has."""
    from protocols import PROTOCOLS

    try:
        return list(PROTOCOLS.get(context.params.get("protocol") or "").entry.presets)
    except InputError:
        return ["quick", "paper"]


def everything() -> list[str]:
    """All that ``check`` takes by name."""
    return [*methods(), *datasets(), *backbones(), *protocols()]


def runs(context: typer.Context) -> list[str]:
    """Keys of the runs in the results folder, as they stand in the names of their files."""
    folder = Path(context.params.get("results") or DEFAULT_RESULTS)
    return sorted({path.stem.rpartition(".")[2] for path in folder.glob("*.json")})


def shown(context: typer.Context) -> list[str]:
    """What ``show`` takes first."""
    return ["method", "recipe", *runs(context)]


def shown_names(context: typer.Context) -> list[str]:
    """What ``show`` takes then."""
    return {"method": methods, "recipe": recipes}.get(context.params.get("what", ""), list[str])()


def listed(names: Callable[[], list[str]], *more: str) -> Callable[[str], list[str]]:
    """For names with commas between: what stands before the last comma stays."""

    def complete(incomplete: str) -> list[str]:
        before, comma, _ = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in (*more, *names())]

    return complete
