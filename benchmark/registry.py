"""One generic registry: names for methods, protocols, data sets, backbones and figures."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from benchmark.errors import InputError, UnusablePlugIn, did_you_mean
from benchmark.name_pattern import NamePattern, without_fields
from benchmark.system.containment import Stopped, contained_import

T = TypeVar("T")


@dataclass(frozen=True)
class Resolved(Generic[T]):
    """A name that was looked up."""

    name: str
    entry: T
    """The registered object."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Values read from a name with fields."""


@dataclass
class _Registration(Generic[T]):
    pattern: NamePattern
    entry: T | None = None
    target: str | None = None
    """``module:attribute`` to import if there is no entry yet."""
    help: str | None = None
    examples: tuple[str, ...] = ()
    package: str | None = None
    """The installed package that provides a plug-in."""
    error: str | None = None
    """The reason why a plug-in cannot be used."""

    @property
    def names(self) -> tuple[str, ...]:
        """The plain name, or the examples of a name with fields."""
        return self.examples or (() if self.pattern.types else (self.pattern.text,))


class Registry(Generic[T]):
    """Maps names to entries.

    A name may hold fields, see ``NamePattern``. An entry is an object, or a reference ``module:attribute`` that is
    imported on first use. Names have three sources: ``register`` and ``register_lazy``; modules that register
    themselves when they are imported; and entry points of installed packages (plug-ins). A plug-in is imported when it
    is looked up or described. A plug-in that cannot be loaded does not affect other entries.

    Args:
        kind: The kind of entry, for messages.
        package: A package whose modules register themselves, imported in alphabetical order.
        modules: Further modules that register themselves, imported after the package.
        group: The group of the plug-ins' entry points.
        base: The class that a plug-in must extend; None accepts anything that can be called.
    """

    def __init__(
        self,
        kind: str,
        *,
        package: str | None = None,
        modules: tuple[str, ...] = (),
        group: str | None = None,
        base: type | None = None,
    ) -> None:
        self.kind = kind
        self._package = package
        self._modules = modules
        self._group = group
        self._base = base
        self._registrations: dict[str, _Registration[T]] = {}
        self._unavailable: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        """Why a plug-in has not got its name, by ``NAME (PACKAGE)``."""
        self._discovered = False

    def register(self, name: str, *, examples: tuple[str, ...] = ()) -> Callable[[T], T]:
        """Return a decorator that registers an object.

        Args:
            name: The name, with or without fields.
            examples: Names to list in place of a name with fields.
        """

        def add(entry: T) -> T:
            self._add(_Registration(NamePattern.parse(name), entry=entry, examples=examples))
            return entry

        return add

    def register_lazy(self, name: str, target: str, *, help: str | None = None, examples: tuple[str, ...] = ()) -> None:
        """Register a reference ``module:attribute``, imported on first use.

        Args:
            name: The name, with or without fields.
            target: The reference.
            help: The line of listings; None: the first line of the docstring, for which the entry is imported.
            examples: Names to list in place of a name with fields.
        """
        self._add(_Registration(NamePattern.parse(name), target=target, help=help, examples=examples))

    def register_unavailable(self, name: str, reason: str) -> None:
        """Make lookups of ``name`` raise ``InputError`` with the reason; the name is not listed."""
        self._unavailable[name] = reason

    @contextlib.contextmanager
    def override(self, name: str, entry: T) -> Iterator[None]:
        """Register ``entry`` under a plain name inside the context, also if the name is taken."""
        self._discover()
        previous = self._registrations.get(name)
        self._registrations[name] = _Registration(NamePattern.literal(name), entry=entry)
        try:
            yield
        finally:
            if previous is None:
                del self._registrations[name]
            else:
                self._registrations[name] = previous

    def names(self) -> list[str]:
        """Return every plain name and every example of a name with fields, in order of registration."""
        self._discover()
        return [name for registration in self._registrations.values() for name in registration.names]

    def built_in_names(self) -> list[str]:
        """Return ``names()`` without those of plug-ins."""
        self._discover()
        return [name for known in self._registrations.values() if known.package is None for name in known.names]

    def display_names(self) -> list[str]:
        """Return ``names()``, with ``folder:PATH`` for a name with fields that has no example.

        Plug-ins that have not got their name come last, as ``NAME (PACKAGE)``.
        """
        self._discover()
        return [*self._display_names(), *self._refused]

    def _display_names(self) -> list[str]:
        return [name for known in self._registrations.values() for name in known.names or (known.pattern.display_name,)]

    def package(self, name: str) -> str | None:
        """Return the installed package whose plug-in ``name`` is; None for the suite's own and for unknown names."""
        self._discover()
        match = self._match(name)
        return None if match is None else match[0].package

    def __iter__(self) -> Iterator[str]:
        """Iterate over ``names()``."""
        return iter(self.names())

    def __len__(self) -> int:
        """Return the number of ``names()``."""
        return len(self.names())

    def __bool__(self) -> bool:
        """Return True: a registry without entries is a registry."""
        return True

    def __getitem__(self, name: str) -> T:
        """Return the entry of a name; ``get`` also returns the values of its fields, and lists the errors."""
        return self.get(name).entry

    def __repr__(self) -> str:
        return f"<{len(self)} names of the kind {self.kind}: {', '.join(self)}>"

    def __contains__(self, name: str) -> bool:
        """Return whether ``name`` is registered."""
        self._discover()
        return self._match(name) is not None

    def usable(self, name: str) -> bool:
        """Return whether ``name`` can be loaded; a plug-in may fail to load."""
        if name in self._refused:
            return False
        try:
            return self.get(name) is not None
        except UnusablePlugIn:
            return False

    def help(self, name: str) -> str:
        """Return one line about a name as listed: its help, or the first line of the entry's docstring.

        The line of a plug-in names its package, or the reason why it cannot be loaded.
        """
        self._discover()
        if name in self._refused:
            return self._refused[name]
        by_display_name = {known.pattern.display_name: known for known in self._registrations.values()}
        registration = by_display_name.get(name) or self._find(name)[0]
        if registration.help is not None:
            return registration.help
        try:
            line = (inspect.getdoc(self._load(registration)) or "").split("\n", 1)[0]
        except UnusablePlugIn as error:
            return str(error)
        return line if registration.package is None else f"{line} (plug-in of {registration.package})"

    def get(self, name: str, extra: Iterable[str] = ()) -> Resolved[T]:
        """Look up a name.

        Args:
            name: The name, with values in place of fields.
            extra: Further names to suggest if the name is unknown.

        Raises:
            InputError: The name is unknown; the message suggests near ones.
            UnusablePlugIn: The plug-in of this name cannot be loaded.
        """
        self._discover()
        registration, fields = self._find(name, extra)
        return Resolved(name, self._load(registration), fields)

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True
        if self._package is not None:
            package = importlib.import_module(self._package)
            for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
                importlib.import_module(f"{self._package}.{module}")
        for path in self._modules:
            importlib.import_module(path)
        if self._group is not None:
            for point in importlib.metadata.entry_points(group=self._group):
                self._add_plugin(point.name, point.value, point.dist.name if point.dist is not None else point.module)

    def _add(self, registration: _Registration[T]) -> None:
        name = registration.pattern.text
        if name in self._registrations:
            hint = ": a plug-in has its name from its entry point alone" if self._registrations[name].package else ""
            raise ValueError(f"{self.kind} {name!r} is registered twice{hint}")
        self._registrations[name] = registration

    def _add_plugin(self, name: str, target: str, package: str) -> None:
        """Register the entry point of an installed package; record the reason if its name cannot be used."""
        error = None
        try:
            pattern = NamePattern.parse(name)
        except ValueError:
            pattern = NamePattern.literal(without_fields(name))
            error = f"{self.kind} {name!r}, a plug-in of {package}, has a name whose fields cannot be read"
        taken, _ = self._match(name) or (self._registrations.get(name), None)
        if taken is not None and taken.package is None:
            self._refused[f"{name} ({package})"] = (
                f"the plug-in of {package} cannot be used: {self.kind} {name!r} is the suite's own; "
                f"rename it in {package}"
            )
            return
        if taken is not None:
            both = f"a plug-in of {taken.package} and of {package}"
            error = f"{self.kind} {name!r} is both {both}, and only one can be meant; uninstall {package}"
        self._registrations[name] = _Registration(pattern, target=target, package=package, error=error)

    def _match(self, name: str) -> tuple[_Registration[T], dict[str, Any]] | None:
        # plain names take precedence over names with fields
        for registration in sorted(self._registrations.values(), key=lambda known: bool(known.pattern.types)):
            fields = registration.pattern.match(name)
            if fields is not None:
                return registration, fields
        return None

    def _find(self, name: str, extra: Iterable[str] = ()) -> tuple[_Registration[T], dict[str, Any]]:
        if match := self._match(name):
            return match
        if name in self._unavailable:
            raise InputError(f"there is no {self.kind} {name}: {self._unavailable[name]}")
        if name in self._refused:
            raise UnusablePlugIn(self._refused[name])
        hint = did_you_mean(name, [*self._display_names(), *extra], count=2, cutoff=0.55)
        raise InputError(f"unknown {self.kind} {name!r}; {hint}")

    def _load(self, registration: _Registration[T]) -> T:
        if registration.entry is None and registration.error is None:
            assert registration.target is not None
            try:
                if registration.package is None:
                    registration.entry = self._import(registration.target)
                else:
                    with contained_import():
                        registration.entry = self._import(registration.target)
            except (Exception, Stopped) as error:
                package = registration.package
                if package is None:
                    raise
                reason = str(error) if isinstance(error, Stopped) else f"{type(error).__name__}: {error}"
                reason = reason.split("\n", 1)[0]
                registration.error = (
                    f"{self.kind} {registration.pattern.text!r}, a plug-in of {package}, cannot be loaded ({reason}); "
                    f"update or uninstall {package}"
                )
                raise UnusablePlugIn(registration.error) from error
        if registration.error is not None:
            raise UnusablePlugIn(registration.error)
        return cast(T, registration.entry)

    def _import(self, target: str) -> T:
        module, _, attribute = target.partition(":")
        loaded: Any = importlib.import_module(module)
        for part in attribute.split("."):
            loaded = getattr(loaded, part)
        if not callable(loaded):
            raise TypeError(f"{target} cannot be called")
        if self._base is not None and not (isinstance(loaded, type) and issubclass(loaded, self._base)):
            raise TypeError(f"{target} is no subclass of {self._base.__name__}")
        return cast(T, loaded)
