"""What the page says of a single run: its record as compact JSON, drawn by the page's script when it is opened."""

from __future__ import annotations

import inspect
import itertools
import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from benchmark.errors import InputError
from benchmark.methods import METHODS, Method
from benchmark.records.run_label import parse_label
from benchmark.records.schema import Record
from benchmark.registry import Registry
from protocols import PROTOCOLS, Protocol

_PLAIN = (
    "key", "status", "provenance", "protocol", "dataset", "method", "backbone", "teacher", "seed", "error", "metric",
    "value", "intervals", "n", "references", "student_facts", "started", "seconds", "peak_memory_mb",
)  # fmt: skip
_REPEATED = ("teacher_facts", "facts", "environment")
_DIGITS = 4
"""Significant digits of a training curve."""


def rerun_command(record: Record) -> str:
    """The shell command that asks for the run again, whatever the default backbones are by then."""
    preset, changed = parse_label(record["preset"])
    changed += [f"student.backbone={record['backbone']}", f"teacher.backbone={record['teacher']}"]
    words = ["python", "-m", "benchmark", "run", "--protocol", record["protocol"], "--method", record["method"]]
    words += ["--dataset", record["dataset"], "--preset", preset, "--seed", str(record["seed"])]
    for setting in changed:
        words += ["--set", setting]
    return shlex.join(words)


def compact_history(history: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A training history by columns, to four significant digits.

    stages: name and number of rows of each stage in turn; steps: one per row; terms: by name, one value or None per
    row, in order of appearance.
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
    """Runs as JSON texts that may stand in an HTML script element. What many runs have in common is kept once."""

    def __init__(self) -> None:
        self._shared: dict[str, int] = {}

    def add(self, record: Record) -> str:
        """The JSON of one run."""
        page = {name: record[name] for name in _PLAIN if name in record}
        page["config"] = {name: self._share(part) for name, part in record.get("config", {}).items()}
        page |= {name: self._share(record[name]) for name in _REPEATED if name in record}
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
        """The JSON list that numbers in the texts of runs stand for."""
        return "[" + ",\n".join(self._shared) + "]"

    def _share(self, value: Any) -> int:
        return self._shared.setdefault(_script_text(value), len(self._shared))


def _about(registry: Registry[Any], name: str, root: type) -> list[str]:
    """The docstrings of an entry and of its bases below ``root``, by paragraphs; none for an entry not known here."""
    try:
        entry = registry.get(name).entry
    except InputError:
        return []
    below = itertools.takewhile(lambda base: base is not root, inspect.getmro(entry))
    texts = [inspect.cleandoc(base.__doc__) for base in below if base.__doc__]
    return [" ".join(paragraph.split()) for text in texts for paragraph in text.split("\n\n")]


def _script_text(value: Any) -> str:
    """JSON in which no ``<`` can end or begin anything."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
