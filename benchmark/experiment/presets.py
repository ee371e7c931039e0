"""From the name of a preset or a recipe, or a file of tuned settings, to values of settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.errors import DoesNotApply, InputError
from benchmark.experiment.request import Request
from benchmark.recipes.recipe import Values, load_recipe, recipe_names
from benchmark.records.run_label import file_label, is_file_label
from protocols import Protocol, tuned_settings


@dataclass(frozen=True)
class Preset:
    """Values of settings under one name."""

    label: str
    """Its name in tables."""
    values: Values
    """Values by section and setting."""
    import_settings: Mapping[str, Any] = field(default_factory=dict)
    """How the data set must have been imported."""
    data_key: str = ""
    """Names the data set with these import settings."""


def resolve_preset(request: Request, protocol: type[Protocol], teacher: str | None, student: str | None) -> Preset:
    """Return the values of the request's preset.

    These are the values of the protocol with the settings that the suite has tuned, the values of the protocol with the
    settings of a file that ``tune`` wrote, or those of a recipe.

    Args:
        request: the request.
        protocol: the class of its protocol.
        teacher: the requested backbone of the teacher; None if the recipe chooses.
        student: the requested backbone of the student; None if the recipe chooses.

    Raises:
        DoesNotApply: the file of tuned settings holds none of the method.
        InputError: the preset is unknown or its file damaged, or the recipe does not cover the request.
    """
    name = request.preset
    if name in protocol.presets:
        return Preset(name, protocol.preset(name, request.protocol, request.method), data_key=request.dataset)
    if name in recipe_names():
        recipe = load_recipe(name)
        values = recipe.values(request.protocol, request.method, request.dataset, teacher, student)
        return Preset(name, values, recipe.imported, f"{request.dataset} as imported for {name}")
    if is_file_label(name):
        if request.complete:  # all settings are known, and the file is not needed
            return Preset(name, protocol.preset("quick", request.protocol, request.method), data_key=request.dataset)
        raise InputError(f"preset {name} stands for a file of that sha256; name the file, as --preset FILE.toml")
    return _of_file(request, protocol)


def _of_file(request: Request, protocol: type[Protocol]) -> Preset:
    """Return the preset ``quick`` with the tuned settings of a file, or of the file of the protocol in a folder."""
    path = Path(request.preset).expanduser()
    if path.is_dir():
        files = [path / f"{name}.toml" for name in (request.protocol, protocol.tuned_at)]
        if not any(file.is_file() for file in files):
            raise DoesNotApply(f"folder {path} holds no tuned settings of {request.protocol}, as {files[0].name}")
        path = next(file for file in files if file.is_file())
    elif path.suffix != ".toml":
        raise InputError(
            f"{request.protocol} has no preset {request.preset!r}; it has {', '.join(protocol.presets)}, there are "
            "recipes (`list recipes`), and files that `tune` writes, as FILE.toml"
        )
    elif not path.is_file():
        raise InputError(f"there is no file {path} of tuned settings; `tune` writes one")
    tuned = tuned_settings.read(path)
    if request.method not in tuned:
        raise DoesNotApply(
            f"{path} holds no settings of {request.method}; it holds {', '.join(sorted(tuned)) or 'none'}"
        )
    values = protocol.preset("quick", request.protocol, request.method, tuned[request.method])
    return Preset(file_label(path.stem, path.read_bytes()), values, data_key=request.dataset)
