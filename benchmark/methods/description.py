"""What there is to say about a method, as text and rows of tables."""

from __future__ import annotations

import dataclasses
import inspect
import types
from typing import Any, Literal, get_args, get_origin, get_type_hints

from benchmark.methods.base import Method, Stage

Rows = list[list[str]]


def describe(method: type[Method]) -> tuple[str, Rows, Rows, Rows]:
    """Docstring; settings (name, type, default); needs and slots (name, value); stages.

    Rows of stages are name, share of steps, head, last rate. The stages are those of the default settings.
    """
    parts = (method.needs, method.incremental_defaults)
    needs = [[f.name, _value(getattr(part, f.name))] for part in parts for f in dataclasses.fields(part)]
    stages = [
        [stage.name, f"{100 * stage.share:.4g} %", "fresh" if stage.reset_head else "kept", _rate(stage)]
        for stage in method.stages_for(method.Settings())
    ]
    return (
        inspect.getdoc(method) or "",
        settings_rows(method.Settings),
        needs,
        stages or [["nothing is trained", "", "", ""]],
    )


def settings_rows(settings: type) -> Rows:
    """Name, type and default of every setting of a dataclass."""
    hints = get_type_hints(settings, include_extras=True)
    rows = [[f.name, type_text(hints[f.name]), f"{f.default}"] for f in dataclasses.fields(settings)]
    for row in rows:
        row[2] = f"{float(row[2]):.6g}" if row[1].startswith("float") else row[2]
    return rows


def type_text(hint: Any) -> str:
    """A type for people: ``float >= 0``, ``mask | truncate``."""
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
