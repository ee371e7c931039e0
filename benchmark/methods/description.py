"""Descriptions of methods, as text and table rows."""

from __future__ import annotations

import dataclasses
import inspect
import types
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from benchmark.methods.base import Method, Stage

Rows = list[list[str]]


class Description(NamedTuple):
    """The description of a method."""

    text: str
    """The docstring."""
    settings: Rows
    """Name, type and default of each setting."""
    needs: Rows
    """Name and value of each requirement and incremental default."""
    stages: Rows
    """Name, share of steps, head and last rate of each stage, for the default settings."""


def describe(method: type[Method]) -> Description:
    """Describe a method from its class attributes and its docstring."""
    parts = (method.needs, method.incremental_defaults)
    needs = [[f.name, _value(getattr(part, f.name))] for part in parts for f in dataclasses.fields(part)]
    stages = [
        [stage.name, f"{100 * stage.share:.4g} %", "fresh" if stage.reset_head else "kept", _rate(stage)]
        for stage in method.stages_for(method.Settings())
    ]
    return Description(
        inspect.getdoc(method) or "",
        settings_rows(method.Settings),
        needs,
        stages or [["nothing is trained", "", "", ""]],
    )


def equation_of(method: type[Method]) -> str:
    """Return the LaTeX of a method's loss, or an empty string; a parent's equation does not count."""
    return inspect.cleandoc(vars(method).get("equation", ""))


def settings_rows(settings: type) -> Rows:
    """Return name, type and default of every setting of a dataclass."""
    hints = get_type_hints(settings, include_extras=True)
    rows = [[f.name, type_text(hints[f.name]), f"{f.default}"] for f in dataclasses.fields(settings)]
    for row in rows:
        row[2] = f"{float(row[2]):.6g}" if row[1].split()[0] == "float" else row[2]
    return rows


def type_text(hint: Any) -> str:
    """Return a readable form of a type: ``float >= 0``, ``mask | truncate``."""
    if get_origin(hint) is Literal:
        return " | ".join(map(str, get_args(hint)))
    if isinstance(hint, types.UnionType):
        return " | ".join(map(type_text, get_args(hint)))
    if not hasattr(hint, "__metadata__"):
        return getattr(hint, "__name__", str(hint))
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    bounds = [
        f"{sign} {getattr(mark, name)}" for mark in hint.__metadata__ for name, sign in signs.items()
        if hasattr(mark, name)
    ]  # fmt: skip
    return f"{type_text(hint.__origin__)} {', '.join(bounds)}"


def _rate(stage: Stage) -> str:
    return "as scheduled" if stage.final_lr is None else f"{stage.final_lr:g}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) or "none" if isinstance(value, tuple) else str(value)
