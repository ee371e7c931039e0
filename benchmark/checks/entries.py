"""What there is to check: entries by name, and files that hold one."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

from benchmark.backbones import BACKBONES
from benchmark.checks.check import Contract, Subject
from benchmark.data import DATASETS
from benchmark.errors import InputError
from benchmark.methods import METHODS, Method
from benchmark.registry import Registry
from protocols import PROTOCOLS, Protocol

Kind = Literal["method", "dataset", "backbone", "protocol"]
KINDS: tuple[Kind, ...] = get_args(Kind)
REGISTRIES: dict[Kind, Registry[Any]] = {
    "method": METHODS,
    "dataset": DATASETS,
    "backbone": BACKBONES,
    "protocol": PROTOCOLS,
}


def contract_of(kind: Kind) -> Contract:
    """The rules of a kind."""
    from benchmark.checks.backbones import BACKBONE
    from benchmark.checks.datasets import DATASET
    from benchmark.checks.methods import METHOD
    from benchmark.checks.protocols import PROTOCOL

    return {"method": METHOD, "dataset": DATASET, "backbone": BACKBONE, "protocol": PROTOCOL}[kind]


@contextlib.contextmanager
def subject(
    name: str, kind: Kind | None, root: Path, overrides: tuple[str, ...] = ()
) -> Iterator[tuple[Kind, Subject]]:
    """What a name stands for and its kind, for as long as it is checked.

    name: of a registered entry, or ``FILE.py`` or ``FILE.py:ATTRIBUTE``, which stands under the file's name meanwhile.
    A name of nothing, or of several kinds unless ``kind`` says which, raises ``InputError``.
    """
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="check-")))
        if named := re.fullmatch(r"(.+\.py)(?::(\w+))?", name):
            path = Path(named[1]).expanduser()
            kind, entry = _in_file(path, named[2], kind)
            stack.enter_context(REGISTRIES[kind].override(path.stem, entry))
            yield kind, Subject(path.stem, entry, root, scratch, file=path.resolve(), overrides=overrides)
            return
        kind = _kind(name, kind)
        match = REGISTRIES[kind].get(name)
        yield kind, Subject(name, match.entry, root, scratch, match.fields, overrides=overrides)


def _kind(name: str, kind: Kind | None) -> Kind:
    if kind is not None:
        return kind
    found = [kind for kind, registry in REGISTRIES.items() if name in registry]
    if len(found) > 1:
        raise InputError(f"{name} is a {' and a '.join(found)}; say which with --kind")
    if not found:
        known = [other for registry in REGISTRIES.values() for other in registry.display_names()]
        METHODS.get(name, extra=[other for other in known if other not in METHODS])
    return found[0]


def _in_file(path: Path, attribute: str | None, kind: Kind | None) -> tuple[Kind, Any]:
    """The one entry that a file holds, or the one named."""
    module = _module(path)
    named = [attribute] if attribute else [name for name in vars(module) if not name.startswith("_")]
    found = {}
    for name in named:
        entry = getattr(module, name, None)
        what = _what(entry)
        if what is not None and kind in (None, what) and (attribute or entry.__module__ == module.__name__):
            found[name] = what, entry
    if len(found) == 1:
        return next(iter(found.values()))
    sought = kind or "method, protocol, backbone or function that returns an ImageSet"
    if not found:
        raise InputError(f"{path} holds no {attribute + ', a ' if attribute else ''}{sought}")
    raise InputError(f"{path} holds {', '.join(found)}; say which, as {path}:{next(iter(found))}")


def _what(entry: Any) -> Kind | None:
    from benchmark.backbones.network import Backbone

    if inspect.isclass(entry):
        bases: dict[type, Kind] = {Method: "method", Protocol: "protocol", Backbone: "backbone"}
        return next((kind for base, kind in bases.items() if issubclass(entry, base)), None)
    if inspect.isfunction(entry):
        returned = str(entry.__annotations__.get("return", ""))
        return "dataset" if "ImageSet" in returned else "backbone" if "Backbone" in returned else None
    return None


def _module(path: Path) -> ModuleType:
    name = f"checked_{path.stem}"
    made = importlib.util.spec_from_file_location(name, path)
    if not path.is_file() or made is None or made.loader is None:
        raise InputError(f"there is no file {path}; check takes a name, or a file as path/to/my_method.py")
    module = importlib.util.module_from_spec(made)
    sys.modules[name] = module  # its dataclasses look themselves up there
    try:
        made.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"{path} cannot be imported ({type(error).__name__}: {error})") from error
    return module
