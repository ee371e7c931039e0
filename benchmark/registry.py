"""One generic registry: names for methods, protocols, data sets and backbones."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import inspect
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from benchmark.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Match(Generic[T]):
    """What a name stands for: the registered entry and the integers read from a name with fields."""

    name: str
    entry: T
    fields: Mapping[str, int] = field(default_factory=dict)


@dataclass
class _Slot(Generic[T]):
    pattern: re.Pattern[str]
    entry: T | None
    target: str | None
    help: str | None
    examples: tuple[str, ...]
    family: Callable[[str], T] | None = None


class Registry(Generic[T]):
    """Maps names to entries.

    A name may hold integer fields, as in ``fewshot-{way}way{shot}shot``; a family holds every name that begins with a
    prefix. An entry is an object, or a reference ``"module:attribute"`` that is imported when first asked for. Names
    come from three places: ``register``, ``family`` and ``refer``; the modules of ``room``, a package whose files
    register themselves when imported; and the installed packages' entry points of ``group``.
    """

    def __init__(self, kind: str, *, room: str | None = None, group: str | None = None) -> None:
        self.kind = kind
        self._room = room
        self._group = group
        self._slots: dict[str, _Slot[T]] = {}
        self._discovered = False

    def register(self, name: str, *, examples: tuple[str, ...] = ()) -> Callable[[T], T]:
        """Decorator that enters an object under ``name``; ``examples`` stand in listings for a name with fields."""

        def enter(entry: T) -> T:
            self._add(name, entry, None, None, examples)
            return entry

        return enter

    def family(self, prefix: str, *, example: str) -> Callable[[Callable[[str], T]], Callable[[str], T]]:
        """Decorator that enters all names that begin with ``prefix``: the function makes the entry from the rest.

        ``example`` stands in listings, with the function's docstring.
        """

        def enter(make: Callable[[str], T]) -> Callable[[str], T]:
            self._add(prefix, None, None, (inspect.getdoc(make) or "").split("\n", 1)[0], (example,))
            slot = self._slots[prefix]
            slot.pattern, slot.family = re.compile(re.escape(prefix) + "(?s:.+)"), make
            return make

        return enter

    def refer(self, name: str, target: str, *, help: str | None = None, examples: tuple[str, ...] = ()) -> None:
        """Enter ``name`` as a reference ``"module:attribute"``, imported when first asked for."""
        self._add(name, None, target, help, examples)

    def _add(self, name: str, entry: T | None, target: str | None, help: str | None, examples: tuple[str, ...]) -> None:
        if name in self._slots:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        parts = re.split(r"\{(\w+)\}", name)
        pattern = "".join(f"(?P<{p}>[0-9]{{1,9}})" if i % 2 else re.escape(p) for i, p in enumerate(parts))
        self._slots[name] = _Slot(
            re.compile(pattern), entry, target, help, examples or (() if len(parts) > 1 else (name,))
        )

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True
        if self._room is not None:
            package = importlib.import_module(self._room)
            for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
                importlib.import_module(f"{self._room}.{module}")
        if self._group is not None:
            for point in importlib.metadata.entry_points(group=self._group):
                source = f"plug-in of {point.dist.name}" if point.dist is not None else "plug-in"
                self.refer(point.name, point.value, help=source)

    def names(self) -> list[str]:
        """Every plain name and every example of a name with fields, in order of registration."""
        self._discover()
        return [example for slot in self._slots.values() for example in slot.examples]

    def patterns(self) -> list[str]:
        """Every registered name, fields unfilled, in order of registration."""
        self._discover()
        return list(self._slots)

    def help(self, name: str) -> str:
        """First line of the entry's docstring (or the help given with a reference)."""
        self._discover()
        key, _ = self._find(name)
        slot = self._slots[key]
        if slot.help is not None:
            return slot.help
        return (inspect.getdoc(self._load(slot)) or "").split("\n", 1)[0]

    def get(self, name: str) -> Match[T]:
        """The entry that ``name`` stands for; an unknown name raises ``InputError`` with the nearest known ones."""
        self._discover()
        key, found = self._find(name)
        slot = self._slots[key]
        if slot.family is not None:
            return Match(name, slot.family(name.removeprefix(key)))
        fields = {k: int(v) for k, v in found.groupdict().items()} if found else {}
        return Match(name, self._load(slot), fields)

    def _find(self, name: str) -> tuple[str, re.Match[str] | None]:
        if name in self._slots and self._slots[name].family is None:
            return name, None
        for key, slot in self._slots.items():
            if found := slot.pattern.fullmatch(name):
                return key, found
        known = self.names()
        near = difflib.get_close_matches(name, known, n=2, cutoff=0.55)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(known)}"
        raise InputError(f"unknown {self.kind} {name!r}; {hint}")

    def _load(self, slot: _Slot[T]) -> T:
        if slot.entry is None:
            assert slot.target is not None
            module, _, attribute = slot.target.partition(":")
            loaded: Any = importlib.import_module(module)
            for part in attribute.split("."):
                loaded = getattr(loaded, part)
            slot.entry = cast(T, loaded)
        return slot.entry
