"""Typed settings from text: overrides, seeds, and what of them enters a config."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from benchmark.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from pydantic import TypeAdapter

S = TypeVar("S")

SECTIONS = ("protocol", "method", "student", "teacher", "training")

ADDED_LATER: Mapping[str, bool] = {"added": True}
"""Metadata of a settings field that came after the first records: ``field(default=..., metadata=ADDED)``.

At its default such a field is left out of configs, and so of keys: what was recorded before it existed, when every run
had what is now the default, keeps its key.
"""


def to_config(settings: Any) -> dict[str, Any]:
    """A settings dataclass as plain values for a config, without the ``ADDED`` fields that have their default."""
    values = dataclasses.asdict(settings)
    for part in dataclasses.fields(settings):
        if part.metadata.get("added") and values[part.name] == part.default:
            del values[part.name]
    return values


def parse_overrides(items: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Read ``section.name=value`` items, as given to ``--set``, into one mapping per section."""
    overrides: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for item in items:
        path, equals, value = item.partition("=")
        section, _, name = path.strip().partition(".")
        if not equals or not name.isidentifier():
            raise InputError(f"--set {item!r} is not of the form section.name=value, as in method.margin=0.1")
        if section not in overrides:
            raise InputError(f"--set {item!r}: no section {section!r}; {did_you_mean(section, SECTIONS)}")
        if name in overrides[section]:
            raise InputError(f"{section}.{name} is given twice")
        overrides[section][name] = value.strip()
    return overrides


def parse_seeds(text: str) -> list[int]:
    """Read seeds such as ``3``, ``0,1,2`` or ``0-4``."""
    seeds: list[int] = []
    for part in text.split(",") if text.isascii() else [""]:
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and (last.isdecimal() if dash else True)) or len(first + last) > 18:
            raise InputError(f"seeds {text!r} are not of the form 3 or 0,1,2 or 0-4")
        low, high = int(first), int(last) if dash else int(first)
        if high < low or high - low >= 10_000:
            raise InputError(f"seeds {text!r}: the range {part.strip()} is empty or has more than 10,000 seeds")
        seeds.extend(range(low, high + 1))
    if len(set(seeds)) < len(seeds):
        raise InputError(f"seeds {text!r} name a seed twice")
    return seeds


def build_settings(cls: type[S], values: Mapping[str, Any], section: str) -> S:
    """An instance of the dataclass ``cls`` from ``values`` over its defaults.

    Text is converted to the field's type; an unknown name, a wrong type, a value out of bounds or one that is
    not finite raises ``InputError`` naming ``section.name``.
    """
    from pydantic import ValidationError

    known = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise InputError(f"no setting {_quoted(f'{section}.{name}')}; {did_you_mean(name, known)}")
    try:
        built: S = _adapter(cls).validate_python(dict(values))  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        refused = first.get("ctx", {}).get("error")
        if isinstance(refused, InputError):
            raise refused from None
        name = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{section}.{name} = {str(first['input'])!r}: {first['msg'].lower()}") from None
    for name in known:
        value = getattr(built, name)
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{section}.{name} = {value}: not a finite number")
    return built


@cache
def _adapter(cls: type[Any]) -> TypeAdapter[Any]:
    """What validates a dataclass; making it takes longer than all else in a plan."""
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def _quoted(name: str) -> str:
    return name if name.isprintable() else repr(name)
