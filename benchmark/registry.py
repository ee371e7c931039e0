"""One generic registry: names for methods, protocols, data sets and backbones."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.metadata
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from benchmark.errors import InputError, UnusablePlugIn

T = TypeVar("T")


@dataclass(frozen=True)
class Resolved(Generic[T]):
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
    name: str
    pattern: re.Pattern[str]
    kinds: dict[str, str]
    entry: T | None
    target: str | None
    help: str | None
    examples: tuple[str, ...]
    package: str | None = None
    """The installed package whose plug-in it is."""
    error: str | None = None
    """Why it cannot be used."""


class Registry(Generic[T]):
    """Maps names to entries.

    A name may hold fields: whole numbers, as in ``fewshot-{way}way{shot}shot``, numbers with a decimal point, as in
    ``net-x{width:decimal}``, or any text, as in ``folder:{path:text}``. An entry is an object, or a reference
    ``"module:attribute"`` that is imported when first asked for. Names come from three places: ``register`` and
    ``refer``; the modules of ``package``, a package whose files register themselves when imported; and the
    installed packages' entry points of ``group``, plug-ins. A plug-in is imported when it is asked for or described,
    must be a subclass of ``base`` where there is one, and stands in nobody's way but its own where it cannot be used.
    """

    def __init__(
        self, kind: str, *, package: str | None = None, group: str | None = None, base: type | None = None
    ) -> None:
        self.kind = kind
        self._base = base
        self._package = package
        self._group = group
        self._slots: dict[str, _Slot[T]] = {}
        self._unavailable: dict[str, str] = {}
        self._discovered = False

    def register(self, name: str, *, examples: tuple[str, ...] = ()) -> Callable[[T], T]:
        """Decorator that enters an object under ``name``; ``examples`` stand in listings for a name with fields."""

        def enter(entry: T) -> T:
            self._add(name, entry, None, None, examples)
            return entry

        return enter

    def register_lazy(self, name: str, target: str, *, help: str | None = None, examples: tuple[str, ...] = ()) -> None:
        """Enter ``name`` as a reference ``"module:attribute"``, imported when first asked for."""
        self._add(name, None, target, help, examples)

    def register_unavailable(self, name: str, reason: str) -> None:
        """Have ``name``, which might be looked for and stands for nothing, raise ``InputError`` with the reason."""
        self._unavailable[name] = reason

    @contextlib.contextmanager
    def override(self, name: str, entry: T) -> Iterator[None]:
        """Within it a plain ``name`` stands for ``entry``, whatever it stands for otherwise: to try out what is no
        plug-in yet."""
        self._discover()
        before = self._slots.get(name)
        self._slots[name] = _Slot(name, re.compile(re.escape(name)), {}, entry, None, None, (name,))
        try:
            yield
        finally:
            if before is None:
                del self._slots[name]
            else:
                self._slots[name] = before

    def _add(self, name: str, entry: T | None, target: str | None, help: str | None, examples: tuple[str, ...]) -> None:
        if name in self._slots:
            hint = ": a plug-in has its name from its entry point alone" if self._slots[name].package else ""
            raise ValueError(f"{self.kind} {name!r} is registered twice{hint}")
        self._slots[name] = _slot(name, entry=entry, target=target, help=help, examples=examples)

    def _add_plugin(self, name: str, target: str, package: str) -> None:
        """Enter an entry point of an installed package; where it cannot be entered, why."""
        try:
            slot: _Slot[T] = _slot(name, target=target, package=package)
        except (KeyError, re.error):  # a field of no kind there is, or one named twice
            slot = _slot(re.sub("[{}]", "", name), target=target, package=package)
            slot.error = f"{self.kind} {name!r}, a plug-in of {package}, has a name whose fields cannot be read"
        taken, _ = self._match(name) or (self._slots.get(name), None)
        if taken is not None:
            other = taken.package
            both = f"a plug-in of {other} and of {package}" if other else f"the suite's own and a plug-in of {package}"
            slot.error = f"{self.kind} {name!r} is both {both}, and only one can be meant; uninstall {package}"
        self._slots[name] = slot

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True
        if self._package is not None:
            package = importlib.import_module(self._package)
            for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
                importlib.import_module(f"{self._package}.{module}")
        if self._group is not None:
            for point in importlib.metadata.entry_points(group=self._group):
                self._add_plugin(point.name, point.value, point.dist.name if point.dist is not None else point.module)

    def names(self) -> list[str]:
        """Every plain name and every example of a name with fields, in order of registration."""
        self._discover()
        return [example for slot in self._slots.values() for example in slot.examples]

    def display_names(self) -> list[str]:
        """As ``names``; a name with fields that has no example stands with its fields in capitals: ``folder:PATH``."""
        self._discover()
        return [shown for name, slot in self._slots.items() for shown in slot.examples or (_unfilled(name),)]

    def __contains__(self, name: str) -> bool:
        """Whether ``name`` stands for an entry."""
        self._discover()
        return self._match(name) is not None

    def usable(self, name: str) -> bool:
        """Whether ``name`` stands for an entry that can be used: a plug-in may be one that cannot."""
        try:
            return self.get(name) is not None
        except UnusablePlugIn:
            return False

    def help(self, name: str) -> str:
        """First line of the entry's docstring (or the help given with a reference), for a name as listed.

        Of a plug-in with its package; of one that cannot be used, why.
        """
        self._discover()
        listed = (slot for key, slot in self._slots.items() if _unfilled(key) == name)
        slot = next(listed, None) or self._find(name)[0]
        if slot.help is not None:
            return slot.help
        try:
            text = (inspect.getdoc(self._load(slot)) or "").split("\n", 1)[0]
        except UnusablePlugIn as error:
            return str(error)
        return text if slot.package is None else f"{text} (plug-in of {slot.package})"

    def get(self, name: str, extra: Iterable[str] = ()) -> Resolved[T]:
        """The entry that ``name`` stands for; an unknown name raises ``InputError`` with the nearest known ones.

        A plug-in that cannot be used raises ``UnusablePlugIn``. ``extra``: other names that might have been meant.
        """
        self._discover()
        slot, fields = self._find(name, extra)
        return Resolved(name, self._load(slot), fields)

    def _match(self, name: str) -> tuple[_Slot[T], dict[str, Any]] | None:
        # a plain name comes before every name with fields
        for slot in sorted(self._slots.values(), key=lambda slot: bool(slot.kinds)):
            if found := slot.pattern.fullmatch(name):
                return slot, {k: _KINDS[slot.kinds[k]][1](v) for k, v in found.groupdict().items()}
        return None

    def _find(self, name: str, extra: Iterable[str] = ()) -> tuple[_Slot[T], dict[str, Any]]:
        if found := self._match(name):
            return found
        if name in self._unavailable:
            raise InputError(f"there is no {self.kind} {name}: {self._unavailable[name]}")
        known = [*self.display_names(), *extra]
        near = difflib.get_close_matches(name, known, n=2, cutoff=0.55)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(known)}"
        raise InputError(f"unknown {self.kind} {name!r}; {hint}")

    def _load(self, slot: _Slot[T]) -> T:
        if slot.entry is None and slot.error is None:
            assert slot.target is not None
            try:
                slot.entry = self._imported(slot.target)
            except Exception as error:
                if slot.package is None:
                    raise
                reason = f"{type(error).__name__}: {error}".split("\n", 1)[0]
                slot.error = (
                    f"{self.kind} {slot.name!r}, a plug-in of {slot.package}, cannot be loaded ({reason}); update or "
                    f"uninstall {slot.package}"
                )
                raise UnusablePlugIn(slot.error) from error
        if slot.error is not None:
            raise UnusablePlugIn(slot.error)
        return cast(T, slot.entry)

    def _imported(self, target: str) -> T:
        module, _, attribute = target.partition(":")
        loaded: Any = importlib.import_module(module)
        for part in attribute.split("."):
            loaded = getattr(loaded, part)
        if not callable(loaded):
            raise TypeError(f"{target} cannot be called")
        if self._base is not None and not (isinstance(loaded, type) and issubclass(loaded, self._base)):
            raise TypeError(f"{target} is no subclass of {self._base.__name__}")
        return cast(T, loaded)


def _slot(
    name: str,
    *,
    entry: T | None = None,
    target: str | None = None,
    help: str | None = None,
    examples: tuple[str, ...] = (),
    package: str | None = None,
) -> _Slot[T]:
    first, *rest = _FIELD.split(name)
    keys, kinds, texts = rest[::3], rest[1::3], rest[2::3]
    pattern = re.escape(first)
    for key, kind, text in zip(keys, kinds, texts, strict=True):
        pattern += f"(?P<{key}>{_KINDS[kind][0]}){re.escape(text)}"
    return _Slot(
        name, re.compile(pattern), dict(zip(keys, kinds, strict=True)), entry, target, help,
        examples or (() if keys else (name,)), package,
    )  # fmt: skip


def _unfilled(name: str) -> str:
    return _FIELD.sub(lambda field: field[1].upper(), name)
