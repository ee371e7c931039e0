"""Names that records and keys hold. A rename of one of them would orphan what was recorded: it must fail here first.

A stored name may change together with a version or the schema; then ``stored_names.json`` changes in the same commit.
"""

from __future__ import annotations

import ast
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmark.methods import METHODS
from benchmark.spec import Student, Teacher, Training
from protocols import PROTOCOLS

ROOT = Path(__file__).parent.parent
STORED = json.loads(Path(__file__).with_name("stored_names.json").read_text(encoding="utf-8"))


def defaults(settings: type) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(settings)}


def calls(name: str) -> Iterator[ast.Call]:
    """Every call of a function of that name in the package."""
    for folder in ("benchmark", "protocols"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == name:
                    yield node


def test_settings_have_the_stored_names_and_defaults() -> None:
    found = {
        "student": defaults(Student),
        "teacher": defaults(Teacher),
        "training": defaults(Training),
        **{f"method {name}": defaults(METHODS.get(name).entry.Settings) for name in METHODS.names()},
        **{f"protocol {name}": defaults(PROTOCOLS.get(name).entry.Settings) for name in PROTOCOLS.names()},
    }
    assert found == STORED["settings"]


def test_stages_have_the_stored_names() -> None:
    entries = {name: METHODS.get(name).entry for name in METHODS.names()}
    found = {name: [stage.name for stage in entry.stages_for(entry.Settings())] for name, entry in entries.items()}
    assert found == STORED["stages"]


def test_random_streams_have_the_stored_purposes() -> None:
    purposes = {
        argument.value
        for call in calls("derive_seed")
        for argument in call.args[1:]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }
    assert sorted(purposes) == STORED["purposes"]
