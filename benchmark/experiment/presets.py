"""From the name of a preset or a recipe to values of settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmark.errors import InputError
from benchmark.experiment.request import Request
from benchmark.recipes.recipe import Values, load_recipe, recipe_names
from protocols import Protocol


@dataclass(frozen=True)
class Preset:
    """Values of settings under one name."""

    values: Values
    """Values by section and setting."""
    import_settings: Mapping[str, Any] = field(default_factory=dict)
    """How the data set must have been imported."""
    data_key: str = ""
    """Names the data set with these import settings."""


def resolve_preset(request: Request, protocol: type[Protocol], teacher: str | None, student: str | None) -> Preset:
    """Return the values of the request's preset: those of the protocol, with tuned settings, or those of a recipe.

    Args:
        request: the request.
        protocol: the class of its protocol.
        teacher: the requested backbone of the teacher; None if the recipe chooses.
        student: the requested backbone of the student; None if the recipe chooses.

    Raises:
        InputError: the preset is unknown, or the recipe does not cover the request.
    """
    name = request.preset
    if name in protocol.presets:
        return Preset(protocol.preset(name, request.protocol, request.method), data_key=request.dataset)
    if name not in recipe_names():
        raise InputError(
            f"{request.protocol} has no preset {name!r}; it has {', '.join(protocol.presets)}, and there are recipes "
            "(`list recipes`)"
        )
    recipe = load_recipe(name)
    values = recipe.values(request.protocol, request.method, request.dataset, teacher, student)
    return Preset(values, recipe.imported, f"{request.dataset} as imported for {name}")
