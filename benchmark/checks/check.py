"""Checks, suites of checks, and the checks that several kinds of entries share."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from benchmark.errors import InputError
from benchmark.settings import build_settings

Kind = Literal["method", "dataset", "backbone", "protocol"]
KINDS: tuple[Kind, ...] = get_args(Kind)

HEAVY_MODULES = (
    "torch", "torchvision", "numpy", "pandas", "scipy", "sklearn", "matplotlib", "timm", "learn2learn", "avalanche",
)  # fmt: skip


class CheckFailed(Exception):
    """A check found a fault; the message describes it."""


def require(condition: bool, reason: str) -> None:
    """Raise ``CheckFailed`` with the reason unless the condition holds."""
    if not condition:
        raise CheckFailed(reason)


@dataclass(frozen=True, eq=False)
class Candidate:
    """An entry to be checked, under a name that its registry resolves.

    Attributes:
        kind: The kind of entry, which selects the suite.
        name: The name in the registry.
        entry: The registered class, function or published data set.
        root: The data root.
        scratch: An empty folder for the files of the checks.
        fields: Values read from the name.
        file: The source file of an entry that no package registers.
        overrides: Settings of the runs that checks make, in the form of ``--set``.
    """

    kind: Kind
    name: str
    entry: Any
    root: Path
    scratch: Path
    fields: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None
    overrides: tuple[str, ...] = ()


CheckFunction = Callable[[Candidate], None]


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: The name of the function.
        description: What the check demands, in one sentence without its full stop.
        function: Raises ``CheckFailed`` or any other exception if the candidate fails.
    """

    name: str
    description: str
    function: CheckFunction
    requires: str | None = None
    """The name of an earlier check. If that fails, this one is not tried: it would tell the same fault again."""
    otherwise: str = ""
    """What the failure of that check means, in words."""


@dataclass(frozen=True)
class CheckResult:
    """The result of one check. ``failure`` is None if the candidate passed, else the reason."""

    check: Check
    failure: str | None
    tried: bool = True
    """False: the check that this one requires has failed, and ``failure`` says so."""


class CheckSuite:
    """All checks of one kind of entry, by name, in the order of their definition."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.checks: dict[str, Check] = {}

    def register(self, function: CheckFunction) -> CheckFunction:
        """Decorator that adds a check. The docstring of the function is the description."""
        return self._add(function)

    def register_after(self, requires: str, otherwise: str) -> Callable[[CheckFunction], CheckFunction]:
        """Return a decorator that adds a check, which is tried only if the check ``requires`` passes.

        Args:
            requires: The name of an earlier check.
            otherwise: What its failure means, as ``the loss cannot be evaluated``.
        """
        return functools.partial(self._add, requires=requires, otherwise=otherwise)

    def _add(self, function: CheckFunction, requires: str | None = None, otherwise: str = "") -> CheckFunction:
        description = (inspect.getdoc(function) or "").rstrip(".").replace("``", "")
        self.checks[function.__name__] = Check(function.__name__, description, function, requires, otherwise)
        return function

    def run(self, candidate: Candidate) -> Iterator[CheckResult]:
        """Run all checks in order and yield their results. A check whose requirement failed is not tried."""
        untried: dict[str, str] = {}
        failed: set[str] = set()
        for check in self.checks.values():
            reason = untried.get(check.requires or "") or (check.otherwise if check.requires in failed else None)
            if reason is not None:
                untried[check.name] = reason
                yield CheckResult(check, reason, tried=False)
                continue
            failure = failure_of(check, candidate)
            if failure is not None:
                failed.add(check.name)
            yield CheckResult(check, failure)


def failure_of(check: Check, candidate: Candidate) -> str | None:
    """Run one check.

    Args:
        check: A check of the candidate's kind.
        candidate: The entry to be checked.

    Returns:
        None if the candidate passes, else the reason. An unexpected exception of the entry is a failure too.
    """
    try:
        check.function(candidate)
    except (CheckFailed, InputError) as error:
        return str(error)
    except Exception as error:
        return describe_error(error, candidate.entry)
    return None


def describe_error(error: Exception, entry: Any) -> str:
    """Describe an exception by the last line of the entry's own file that it passed through, and a near name.

    Args:
        error: The exception.
        entry: The class or function whose author reads the message.
    """
    frames = traceback.extract_tb(error.__traceback__)
    try:
        own = inspect.getsourcefile(inspect.unwrap(entry))
    except TypeError:  # of no file, as dict
        own = None
    frame = next((frame for frame in reversed(frames) if frame.filename == own), frames[-1])
    hint = ""
    if isinstance(error, AttributeError) and error.name is not None and error.obj is not None:
        known = [name for name in dir(error.obj) if not name.startswith("_")]
        near = difflib.get_close_matches(error.name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
    kind = type(error).__name__
    return f"{Path(frame.filename).name}, line {frame.lineno}: {str(error) or 'no message'} ({kind}){hint}"


def require_documentation(candidate: Candidate) -> None:
    """Require a docstring that begins with a one-line sentence, which listings show."""
    first_line = (inspect.getdoc(candidate.entry) or "").split("\n", 1)[0]
    require(bool(first_line), "it has no docstring")
    require(first_line.endswith("."), f"the first line of its docstring does not end with a full stop: {first_line!r}")


def require_light_import(candidate: Candidate) -> None:
    """Require that importing the candidate's module, in an interpreter of its own, imports no heavy module."""
    module = inspect.getmodule(candidate.entry)
    require(module is not None, "its module cannot be found")
    assert module is not None
    heavy = _heavy_imports(module.__name__, candidate.file)
    require(
        not heavy,
        f"it imports {', '.join(heavy)} at its top; import inside functions, or under TYPE_CHECKING for types",
    )


@functools.cache
def _heavy_imports(module: str, file: Path | None) -> tuple[str, ...]:
    import_module = f"import importlib; importlib.import_module({module!r})"
    statement = f"import runpy; runpy.run_path({str(file)!r})" if file else import_module
    program = f"import sys; {statement}; print(*[name for name in {HEAVY_MODULES} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    last_line = (done.stderr.strip() or "the interpreter ended").splitlines()[-1]
    require(done.returncode == 0, f"importing its module alone fails: {last_line}")
    return tuple(done.stdout.split())


def require_typed_settings(settings: Any, section: str) -> None:
    """Require a frozen dataclass whose fields have a default, a validated type and, if numeric, bounds.

    Args:
        settings: The ``Settings`` class of a method or protocol.
        section: The section of settings, which begins their names in messages.
    """
    require(dataclasses.is_dataclass(settings), "its Settings are not a dataclass")
    require(settings.__dataclass_params__.frozen, "its Settings are not a frozen dataclass")
    hints = get_type_hints(settings, include_extras=True)
    for part in dataclasses.fields(settings):
        name = f"{section}.{part.name}"
        require(part.default is not dataclasses.MISSING, f"{name} has no default")
        annotations = getattr(hints[part.name], "__metadata__", ())
        bounded = any(hasattr(annotation, bound) for annotation in annotations for bound in _BOUNDS)
        numeric = type(part.default) in (int, float)
        require(bounded or not numeric, f"{name} has no bounds, such as Annotated[float, Ge(0)]")
        require(
            hints[part.name] is str or _rejects_nonsense(settings, part.name, section),
            f"{name} accepts the value 'nonsense': its type must be one that is validated",
        )
    require(build_settings(settings, {}, section) == settings(), "its Settings differ from their own defaults")
    require(_rejects_nonsense(settings, "nonsense", section), "its Settings accept an unknown name")


_BOUNDS = ("ge", "gt", "le", "lt")


def _rejects_nonsense(settings: Any, name: str, section: str) -> bool:
    try:
        build_settings(settings, {name: "nonsense"}, section)
    except InputError:
        return True
    return False
