"""Typed settings from text: overrides, seeds, and the part of settings that enters a config."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from benchmark.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

S = TypeVar("S")

SECTIONS = ("protocol", "method", "student", "teacher", "training")

ADDED_LATER: Mapping[str, bool] = {"added": True}
"""Metadata of a settings field that is younger than the first records: ``field(default=..., metadata=ADDED_LATER)``.

Configs, and so keys, leave such a field out at its default. Records from before the field existed keep their keys.
"""


def to_config(settings: Any) -> dict[str, Any]:
    """Return a settings dataclass as plain values for a config, without ``ADDED_LATER`` fields at their default."""
    values = dataclasses.asdict(settings)
    for field in dataclasses.fields(settings):
        if field.metadata.get("added") and values[field.name] == field.default:
            del values[field.name]
    return values


def parse_overrides(items: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the values of ``section.name=value`` items by section and name.

    Args:
        items: the values of ``--set``.

    Raises:
        InputError: an item has another form, names an unknown section, or repeats a setting.
    """
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
    """Return the seeds in a text such as ``3``, ``0,1,2`` or ``0-4``.

    Raises:
        InputError: the text has another form, a range is empty or too long, or a seed is named twice.
    """
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
    """Return an instance of a settings dataclass. Text is converted to the type of its field.

    Args:
        cls: the dataclass.
        values: values by field name; the other fields keep their defaults.
        section: the section of the settings, for messages.

    Raises:
        InputError: a name is unknown, or a value has a wrong type, is out of bounds or not finite.
    """
    from pydantic import ValidationError

    known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise InputError(f"no setting {_quoted(f'{section}.{name}')}; {did_you_mean(name, known)}")
    try:
        built: S = _adapter(cls).validate_python(dict(values))  # type: ignore[arg-type]
    except ValidationError as error:
        raise InputError(validation_message(error, known, section)) from None
    for name in known:
        value = getattr(built, name)
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{section}.{name} = {value}: not a finite number")
    return built


def validation_message(error: ValidationError, known: Iterable[str], table: str = "") -> str:
    """Return the first problem that pydantic found as one line: ``method.margin = 'x': input should be ...``.

    Args:
        error: pydantic's error; an ``InputError`` raised by the dataclass itself gives its own message.
        known: the keys of the table, for the message about an unknown one.
        table: the name of the table that holds the values.
    """
    first = error.errors()[0]
    reason = first.get("ctx", {}).get("error")
    if isinstance(reason, InputError):
        return str(reason)
    parts = [str(part) for part in first["loc"] if part != "[key]"]
    name = ".".join([table, *parts] if table else parts)
    if first["type"] == "missing":
        return f"{name} is missing"
    if first["type"] == "unexpected_keyword_argument":
        return f"unknown key {name!r}; {did_you_mean(parts[-1], known)}"
    return f"{name} = {first['input']!r}: {first['msg'].lower()}"


@cache
def _adapter(cls: type[Any]) -> TypeAdapter[Any]:
    """Return the validator of a dataclass; building it takes longer than the rest of a plan."""
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def _quoted(name: str) -> str:
    return name if name.isprintable() else repr(name)
