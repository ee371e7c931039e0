"""Candidates for checks: registered entries by name, and entries in files."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmark.backbones import BACKBONES
from benchmark.checks.check import Candidate, CheckSuite, Kind
from benchmark.data import DATASETS
from benchmark.errors import InputError
from benchmark.methods import METHODS, Method
from benchmark.registry import Registry
from benchmark.system.files import expand_user
from protocols import PROTOCOLS, Protocol

REGISTRIES: dict[Kind, Registry[Any]] = {
    "method": METHODS,
    "dataset": DATASETS,
    "backbone": BACKBONES,
    "protocol": PROTOCOLS,
}


def suite_of(kind: Kind) -> CheckSuite:
    """The checks of a kind: ``method``, ``dataset``, ``backbone`` or ``protocol``."""
    from benchmark.checks.backbones import BACKBONE_CHECKS
    from benchmark.checks.datasets import DATASET_CHECKS
    from benchmark.checks.methods import METHOD_CHECKS
    from benchmark.checks.protocols import PROTOCOL_CHECKS

    suites = (METHOD_CHECKS, DATASET_CHECKS, BACKBONE_CHECKS, PROTOCOL_CHECKS)
    return next(suite for suite in suites if suite.kind == kind)


@contextlib.contextmanager
def candidate(name: str, kind: Kind | None, root: Path, overrides: tuple[str, ...] = ()) -> Iterator[Candidate]:
    """Open a candidate, with a scratch folder that is removed afterwards.

    Args:
        name: The name of a registered entry, or ``FILE.py`` or ``FILE.py:ATTRIBUTE``. An entry of a file is registered
            under the file's name for the time of the checks.
        kind: The kind of entry. None if the name tells it.
        root: The data root.
        overrides: Settings of the runs that checks make, in the form of ``--set``.

    Yields:
        The candidate.

    Raises:
        InputError: The name is unknown, it is of several kinds and ``kind`` is None, or Python runs without docstrings.
    """
    if sys.flags.optimize >= 2:
        raise InputError(
            "check reads docstrings, which Python leaves out with -OO; unset PYTHONOPTIMIZE, or run without"
        )
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="check-")))
        if match := re.fullmatch(r"(.+\.py)(?::(\w+))?", name):
            path = expand_user(match[1])
            kind, entry = _entry_of_file(path, match[2], kind)
            stack.enter_context(REGISTRIES[kind].override(path.stem, entry))
            yield Candidate(kind, path.stem, entry, root, scratch, file=path.resolve(), overrides=overrides)
            return
        kind = kind or _kind_of_name(name)
        resolved = REGISTRIES[kind].get(name)
        yield Candidate(kind, name, resolved.entry, root, scratch, resolved.fields, overrides=overrides)


def _kind_of_name(name: str) -> Kind:
    kinds = [kind for kind, registry in REGISTRIES.items() if name in registry]
    if len(kinds) > 1:
        raise InputError(f"{name} is a {' and a '.join(kinds)}; say which with --kind")
    if not kinds:
        all_names = [known for registry in REGISTRIES.values() for known in registry.display_names()]
        METHODS.get(name, extra=[known for known in all_names if known not in METHODS])  # raises, with a suggestion
    return kinds[0]


def _entry_of_file(path: Path, attribute: str | None, kind: Kind | None) -> tuple[Kind, Any]:
    """The only entry of a file, or the one of that attribute."""
    module = _import_file(path)
    attributes = [attribute] if attribute else [name for name in vars(module) if not name.startswith("_")]
    entries: dict[str, tuple[Kind, Any]] = {}
    for name in attributes:
        entry = getattr(module, name, None)
        entry_kind = _kind_of_entry(entry)
        if entry_kind is None or kind not in (None, entry_kind):
            continue
        if attribute or entry.__module__ == module.__name__:
            entries[name] = entry_kind, entry
    if len(entries) == 1:
        return next(iter(entries.values()))
    if not entries:
        wanted = kind or "method, protocol, backbone or function that returns an ImageSet"
        raise InputError(f"{path} holds no {attribute + ', a ' if attribute else ''}{wanted}")
    raise InputError(f"{path} holds {', '.join(entries)}; say which, as {path}:{next(iter(entries))}")


def _kind_of_entry(entry: Any) -> Kind | None:
    from benchmark.backbones.network import Backbone

    if inspect.isclass(entry):
        bases: dict[type, Kind] = {Method: "method", Protocol: "protocol", Backbone: "backbone"}
        return next((kind for base, kind in bases.items() if issubclass(entry, base)), None)
    if inspect.isfunction(entry):
        returned = str(entry.__annotations__.get("return", ""))
        return "dataset" if "ImageSet" in returned else "backbone" if "Backbone" in returned else None
    return None


def _import_file(path: Path) -> ModuleType:
    name = f"checked_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise InputError(f"there is no file {path}; check takes a name, or a file as path/to/my_method.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up their own module there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = f", line {lines[-1]}" if lines else ""
        raise InputError(f"{path} cannot be imported ({type(error).__name__}: {error}{line})") from error
    return module
