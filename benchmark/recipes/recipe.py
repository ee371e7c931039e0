"""Paper recipes: named presets over several protocols, one small TOML file each, beside this one.

A file says what it covers (``protocols``, ``pairs`` of teacher and student, ``methods``; the first of each is the
default), on which ``dataset`` and how that is imported (``[import]``), and the values of the settings' sections
(``[protocol]``, ``[student]``, ``[teacher]``, ``[training]``); ``[for.METHOD.SECTION]`` holds what is another for one
method, the method's own settings in the section ``method``. Beside every value stands where it comes from.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from benchmark.errors import DoesNotApply, InputError
from benchmark.settings import SECTIONS

Values = Mapping[str, Mapping[str, Any]]
"""Values of settings by section and name."""

_SHARED = tuple(section for section in SECTIONS if section != "method")


@dataclass(frozen=True)
class Recipe:
    """What a file says. pairs: teacher and student; imported: settings of the data set's import; text: the file."""

    name: str
    title: str
    source: str
    dataset: str
    protocols: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    methods: tuple[str, ...]
    imported: Mapping[str, Any]
    shared: Values
    own: Mapping[str, Values]
    text: str

    def values(
        self, protocol: str, method: str, dataset: str, teacher: str | None = None, student: str | None = None
    ) -> dict[str, dict[str, Any]]:
        """The settings of a run by section, backbones among them; what the recipe does not cover is an ``InputError``.

        teacher, student: backbones asked for; else the first pair that has the other.
        """
        for kind, asked, covered in (
            ("data set", dataset, (self.dataset,)),
            ("protocol", protocol, self.protocols),
            ("method", method, self.methods),
        ):
            if asked not in covered:
                raise DoesNotApply(f"recipe {self.name} is not for {kind} {asked}; it covers {', '.join(covered)}")
        found = [(t, s) for t, s in self.pairs if teacher in (None, t) and student in (None, s)]
        if not found:
            asked = f"{student or 'any student'} from {teacher or 'any teacher'}"
            pairs = ", ".join(f"{s} from {t}" for t, s in self.pairs)
            raise DoesNotApply(f"recipe {self.name} is not for {asked}; it covers {pairs}")
        own = self.own.get(method, {})
        values = {section: {**self.shared.get(section, {}), **own.get(section, {})} for section in SECTIONS}
        values["teacher"]["backbone"], values["student"]["backbone"] = found[0]
        return values


def recipe_names() -> list[str]:
    """The names of all recipes, in alphabetical order."""
    names = (file.name for file in files("benchmark.recipes").iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def load_recipe(name: str) -> Recipe:
    """The recipe of that name; an unknown one raises ``InputError`` with the nearest known ones."""
    known = recipe_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(known)}"
        raise InputError(f"unknown recipe {name!r}; {hint}")
    return parse_recipe(name, files("benchmark.recipes").joinpath(f"{name}.toml").read_text(encoding="utf-8"))


def parse_recipe(name: str, text: str) -> Recipe:
    """The recipe that a file's text is; an unknown key, one that is missing or a value of a wrong type raises
    ``InputError``. Names and values of settings are checked where a run is planned.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"recipe {name} is no TOML ({error})") from None
    found = _Reader(name, table)
    recipe = Recipe(
        name=name,
        title=found.text("title"),
        source=found.text("source"),
        dataset=found.text("dataset"),
        protocols=found.names("protocols"),
        pairs=found.pairs("pairs"),
        methods=found.names("methods"),
        imported=found.table("import"),
        shared={section: found.table(section) for section in _SHARED},
        own={
            method: {section: _table(name, f"for.{method}.{section}", part) for section, part in sections.items()}
            for method, sections in found.tables("for").items()
        },
        text=text,
    )
    found.finish()
    for method, sections in recipe.own.items():
        if method not in recipe.methods:
            raise InputError(f"recipe {name}: [for.{method}] is of no method that it covers")
        for section in sections:
            if section not in SECTIONS:
                raise InputError(f"recipe {name}: no section [for.{method}.{section}]; known: {', '.join(SECTIONS)}")
    return recipe


class _Reader:
    """Takes keys out of a table, each of its type; what is left at the end is unknown."""

    def __init__(self, name: str, table: dict[str, Any]) -> None:
        self._name = name
        self._left = dict(table)
        self._taken: list[str] = []

    def text(self, key: str) -> str:
        return self._take(key, str, "text")

    def names(self, key: str) -> tuple[str, ...]:
        names = self._take(key, list, "a list of names")
        if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise self._wrong(key, "a list of different names")
        return tuple(names)

    def pairs(self, key: str) -> tuple[tuple[str, str], ...]:
        pairs = self._take(key, list, "a list of pairs")
        for pair in pairs:
            if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
                raise self._wrong(key, "a list of pairs [teacher, student]")
        if not pairs:
            raise self._wrong(key, "a list of pairs [teacher, student]")
        return tuple((teacher, student) for teacher, student in pairs)

    def table(self, key: str) -> dict[str, Any]:
        self._taken.append(key)
        return _table(self._name, key, self._left.pop(key, {}))

    def tables(self, key: str) -> dict[str, dict[str, Any]]:
        return {name: _table(self._name, f"{key}.{name}", part) for name, part in self.table(key).items()}

    def finish(self) -> None:
        if self._left:
            unknown = next(iter(self._left))
            raise InputError(f"recipe {self._name}: unknown key {unknown!r}; known: {', '.join(self._taken)}")

    def _take(self, key: str, kind: type, what: str) -> Any:
        self._taken.append(key)
        if key not in self._left:
            raise InputError(f"recipe {self._name} lacks {key!r}")
        value = self._left.pop(key)
        if not isinstance(value, kind):
            raise self._wrong(key, what)
        return value

    def _wrong(self, key: str, what: str) -> InputError:
        return InputError(f"recipe {self._name}: {key} must be {what}")


def _table(name: str, key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"recipe {name}: {key} must be a table")
    return value
