"""The page's data of single runs: records as compact JSON, which the page's script renders when a run is opened."""

from __future__ import annotations

import inspect
import itertools
import json
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from benchmark.errors import InputError
from benchmark.methods import METHODS, Method
from benchmark.records.run_label import NO_TEACHER, is_file_label, parse_label
from benchmark.records.schema import Record
from benchmark.registry import Registry
from benchmark.system.escaping import visible
from protocols import PROTOCOLS, Protocol

_COPIED = (
    "key", "status", "provenance", "protocol", "dataset", "method", "backbone", "teacher", "seed", "error", "metric",
    "value", "intervals", "n", "references", "student_facts", "started", "seconds", "peak_memory_mb",
)  # fmt: skip
_SHARED = ("teacher_facts", "facts", "environment")
_DIGITS = 4
"""Significant digits of values in a training curve."""


def rerun_command(record: Record) -> str:
    """Return the shell command that repeats a run. It names the backbones, so it does not depend on their defaults."""
    preset, changed = parse_label(record["preset"])
    if is_file_label(preset):  # the file may be gone; its settings are in the record
        values = {f"{part}.{n}": v for part in ("method", "training") for n, v in record["config"][part].items()}
        named = {setting.partition("=")[0] for setting in changed} | {"method.name"}
        preset, changed = "quick", [*changed, *(f"{n}={v}" for n, v in values.items() if n not in named)]
    from_file = re.fullmatch(r"(.*@)[0-9a-f]{8}", record["teacher"])  # a record holds the hash of a file of weights
    changed.append(f"student.backbone={record['backbone']}")
    if not from_file and record["teacher"] != NO_TEACHER:
        changed.append(f"teacher.backbone={record['teacher']}")
    words = ["python", "-m", "benchmark", "run", "--protocol", record["protocol"], "--method", record["method"]]
    words += ["--dataset", record["dataset"], "--preset", preset, "--seed", str(record["seed"])]
    words += ["--teacher", f"{from_file[1]}FILE"] if from_file else []
    for setting in changed:
        words += ["--set", setting]
    return shlex.join(words)


def compact_history(history: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Convert a training history from rows to columns, with four significant digits.

    Returns:
        ``stages``: name and number of rows of each stage, in order.
        ``steps``: the step of each row.
        ``terms``: by the name of each term one value per row, None if the row does not have it.
    """
    rows = list(history)
    stages: list[tuple[str, int]] = []
    terms: dict[str, list[float | None]] = {}
    for i, row in enumerate(rows):
        if stages and stages[-1][0] == row["stage"]:
            stages[-1] = (row["stage"], stages[-1][1] + 1)
        else:
            stages.append((row["stage"], 1))
        for name, value in row.items():
            if name not in ("stage", "step"):
                terms.setdefault(name, [None] * len(rows))[i] = float(f"{value:.{_DIGITS}g}")
    return {"stages": stages, "steps": [row["step"] for row in rows], "terms": terms}


class RunPages:
    """Formats runs as JSON for HTML script elements. Values that several runs share are stored once."""

    def __init__(self) -> None:
        self._shared: dict[str, int] = {}
        """Index of each shared value by its JSON."""

    def add(self, record: Record) -> str:
        """Return the JSON of one run; shared values are replaced by their index in ``shared``."""
        page = {name: record[name] for name in _COPIED if name in record}
        page["config"] = {name: self._share(part) for name, part in record.get("config", {}).items()}
        page |= {name: self._share(record[name]) for name in _SHARED if name in record}
        page["preset"] = parse_label(record["preset"])
        page["curve"] = compact_history(record.get("history", ()))
        about = {
            "method": _about(METHODS, record["method"], Method),
            "protocol": _about(PROTOCOLS, record["protocol"], Protocol),
        }
        page["about"] = {name: self._share(text) for name, text in about.items() if text}
        if record["provenance"] == "measured":
            page["command"] = rerun_command(record)
        return _script_text(page)

    @property
    def shared(self) -> str:
        """The JSON list of shared values, which the texts of runs refer to by index."""
        return "[" + ",\n".join(self._shared) + "]"

    def _share(self, value: Any) -> int:
        return self._shared.setdefault(_script_text(value), len(self._shared))


def _about(registry: Registry[Any], name: str, root: type) -> list[str]:
    """Return the docstrings of an entry and of its bases below ``root``, by paragraph; none for an unknown entry."""
    try:
        entry = registry.get(name).entry
    except InputError:
        return []
    bases = itertools.takewhile(lambda base: base is not root, inspect.getmro(entry))
    texts = [inspect.cleandoc(base.__doc__) for base in bases if base.__doc__]
    return [" ".join(paragraph.split()) for text in texts for paragraph in text.split("\n\n")]


def _script_text(value: Any) -> str:
    """Return JSON without ``<``, which could end the script element or open another one.

    Its strings show control and direction characters as their escapes.
    """
    return json.dumps(_shown(value), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {visible(name): _shown(each) for name, each in value.items()}
    return [_shown(each) for each in value] if isinstance(value, list | tuple) else value
