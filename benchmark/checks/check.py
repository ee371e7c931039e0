"""What a rule is, what a contract of rules says of an entry, and what rules of several kinds look at."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from benchmark.errors import InputError
from benchmark.settings import build_settings

HEAVY = (
    "torch", "torchvision", "numpy", "pandas", "scipy", "sklearn", "matplotlib", "timm", "learn2learn", "avalanche",
)  # fmt: skip


class Broken(Exception):
    """A rule is not kept; the message says in what."""


def require(kept: bool, reason: str) -> None:
    """Raise ``Broken`` with the reason unless ``kept``."""
    if not kept:
        raise Broken(reason)


@dataclass(frozen=True)
class Subject:
    """What is checked: an entry under a name that its registry knows.

    fields: read from the name; file: where it was loaded from, for what no package registers; root: the data root;
    scratch: an empty folder; overrides: settings of the runs that are made, as for ``--set``.
    """

    name: str
    entry: Any
    root: Path
    scratch: Path
    fields: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What came of a rule. reason: None where it is kept, else in what it is not."""

    rule: str
    reason: str | None


Rule = Callable[[Subject], None]


class Contract:
    """The rules of a kind of entry, in order. Each is a function that says in a line what it demands."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.rules: dict[str, Rule] = {}

    def rule(self, function: Rule) -> Rule:
        """Decorator that adds a rule."""
        self.rules[(inspect.getdoc(function) or "").rstrip(".").replace("``", "")] = function
        return function

    def verdicts(self, subject: Subject) -> Iterator[Verdict]:
        """Rule after rule. An error in the entry breaks the rule that met it."""
        for name, rule in self.rules.items():
            yield Verdict(name, broken(rule, subject))


def broken(rule: Rule, subject: Subject) -> str | None:
    """In what the subject breaks the rule, None where it keeps it."""
    try:
        rule(subject)
    except (Broken, InputError) as error:
        return str(error)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno})"
    return None


def check_documented(subject: Subject) -> None:
    """Its docstring begins with a line that listings can show."""
    first = (inspect.getdoc(subject.entry) or "").split("\n", 1)[0]
    require(bool(first), "it has no docstring")
    require(first.endswith("."), f"the first line of its docstring does not end with a full stop: {first!r}")


def check_light(subject: Subject) -> None:
    """Importing its module imports nothing that is slow."""
    module = inspect.getmodule(subject.entry)
    require(module is not None, "the module that it stands in cannot be found")
    assert module is not None
    heavy = _imports(module.__name__, subject.file)
    require(not heavy, f"it imports {', '.join(heavy)} at its top; do so inside of functions, or for types alone")


@functools.cache
def _imports(module: str, file: Path | None) -> tuple[str, ...]:
    by_name = f"import importlib as i; i.import_module({module!r})"
    do = f"import runpy; runpy.run_path({str(file)!r})" if file else by_name
    program = f"import sys; {do}; print(*[name for name in {HEAVY} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    last = (done.stderr.strip() or "it ended").splitlines()[-1]
    require(done.returncode == 0, f"importing it alone fails: {last}")
    return tuple(done.stdout.split())


def check_settings(settings: Any, section: str) -> None:
    """Require a frozen dataclass whose fields have types that refuse nonsense, defaults, and bounds where numbers."""
    require(dataclasses.is_dataclass(settings), "its Settings are no dataclass")
    require(settings.__dataclass_params__.frozen, "its Settings are no frozen dataclass")
    hints = get_type_hints(settings, include_extras=True)
    for part in dataclasses.fields(settings):
        where = f"{section}.{part.name}"
        require(part.default is not dataclasses.MISSING, f"{where} has no default")
        bounded = any(hasattr(mark, sign) for mark in getattr(hints[part.name], "__metadata__", ()) for sign in _SIGNS)
        number = type(part.default) in (int, float)
        require(bounded or not number, f"{where} has no bounds, as Annotated[float, Ge(0)] has")
        require(
            hints[part.name] is str or _refuses(settings, part.name, section),
            f"{where} takes 'nonsense' for a value: give it a type",
        )
    require(build_settings(settings, {}, section) == settings(), "its Settings are not what their defaults say")
    require(_refuses(settings, "nonsense", section), "its Settings take a name that they do not know")


_SIGNS = ("ge", "gt", "le", "lt")


def _refuses(settings: Any, name: str, section: str) -> bool:
    try:
        build_settings(settings, {name: "nonsense"}, section)
    except InputError:
        return True
    return False
