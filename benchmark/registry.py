"""One generic registry: names for methods, protocols, data sets and backbones."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from benchmark.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Match(Generic[T]):
    """What a name stands for: the registered entry and the values read from a name with fields."""

    name: str
    entry: T
    fields: Mapping[str, Any] = field(default_factory=dict)


_FIELD = re.compile(r"\{(\w+):?(\w*)\}")
_KINDS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "": ("[0-9]{1,9}", int),
    "decimal": (r"(?:0|[1-9][0-9]{0,8})(?:\.[0-9]{0,8}[1-9])?", float),
    "text": (".+?", str),
}
"""What a field may hold, by the word after its colon: its form and what reads it. A decimal has one form only."""


@dataclass
class _Slot(Generic[T]):
    pattern: re.Pattern[str]
    kinds: dict[str, str]
    entry: T | None
    target: str | None
    help: str | None
    examples: tuple[str, ...]


class Registry(Generic[T]):
    """Maps names to entries.

    A name may hold fields: whole numbers, as in ``fewshot-{way}way{shot}shot``, numbers with a decimal point, as in
    ``net-x{width:decimal}``, or any text, as in ``folder:{path:text}``. An entry is an object, or a reference
    ``"module:attribute"`` that is imported when first asked for. Names come from three places: ``register`` and
    ``refer``; the modules of ``room``, a package whose files register themselves when imported; and the
    installed packages' entry points of ``group``.
    """

    def __init__(self, kind: str, *, room: str | None = None, group: str | None = None) -> None:
        self.kind = kind
        self._room = room
        self._group = group
        self._slots: dict[str, _Slot[T]] = {}
        self._refused: dict[str, str] = {}
        self._discovered = False

    def register(self, name: str, *, examples: tuple[str, ...] = ()) -> Callable[[T], T]:
        """Decorator that enters an object under ``name``; ``examples`` stand in listings for a name with fields."""

        def enter(entry: T) -> T:
            self._add(name, entry, None, None, examples)
            return entry

        return enter

    def refer(self, name: str, target: str, *, help: str | None = None, examples: tuple[str, ...] = ()) -> None:
        """Enter ``name`` as a reference ``"module:attribute"``, imported when first asked for."""
        self._add(name, None, target, help, examples)

    def refuse(self, name: str, reason: str) -> None:
        """Have ``name``, which might be looked for and stands for nothing, raise ``InputError`` with the reason."""
        self._refused[name] = reason

    def _add(self, name: str, entry: T | None, target: str | None, help: str | None, examples: tuple[str, ...]) -> None:
        if name in self._slots:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        first, *rest = _FIELD.split(name)
        keys, kinds, texts = rest[::3], rest[1::3], rest[2::3]
        pattern = re.escape(first)
        for key, kind, text in zip(keys, kinds, texts, strict=True):
            pattern += f"(?P<{key}>{_KINDS[kind][0]}){re.escape(text)}"
        self._slots[name] = _Slot(
            re.compile(pattern), dict(zip(keys, kinds, strict=True)), entry, target, help,
            examples or (() if keys else (name,)),
        )  # fmt: skip

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

    def listing(self) -> list[str]:
        """As ``names``; a name with fields that has no example stands with its fields in capitals: ``folder:PATH``."""
        self._discover()
        return [shown for name, slot in self._slots.items() for shown in slot.examples or (_unfilled(name),)]

    def __contains__(self, name: str) -> bool:
        """Whether ``name`` stands for an entry."""
        self._discover()
        return self._match(name) is not None

    def help(self, name: str) -> str:
        """First line of the entry's docstring (or the help given with a reference), for a name as listed."""
        self._discover()
        listed = (slot for key, slot in self._slots.items() if _unfilled(key) == name)
        slot = next(listed, None) or self._find(name)[0]
        if slot.help is not None:
            return slot.help
        return (inspect.getdoc(self._load(slot)) or "").split("\n", 1)[0]

    def get(self, name: str, also: Iterable[str] = ()) -> Match[T]:
        """The entry that ``name`` stands for; an unknown name raises ``InputError`` with the nearest known ones.

        ``also``: other names that it might have been meant for.
        """
        self._discover()
        slot, fields = self._find(name, also)
        return Match(name, self._load(slot), fields)

    def _match(self, name: str) -> tuple[_Slot[T], dict[str, Any]] | None:
        # a plain name comes before every name with fields
        for slot in sorted(self._slots.values(), key=lambda slot: bool(slot.kinds)):
            if found := slot.pattern.fullmatch(name):
                return slot, {k: _KINDS[slot.kinds[k]][1](v) for k, v in found.groupdict().items()}
        return None

    def _find(self, name: str, also: Iterable[str] = ()) -> tuple[_Slot[T], dict[str, Any]]:
        if found := self._match(name):
            return found
        if name in self._refused:
            raise InputError(f"there is no {self.kind} {name}: {self._refused[name]}")
        known = [*self.listing(), *also]
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


def _unfilled(name: str) -> str:
    return _FIELD.sub(lambda field: field[1].upper(), name)
