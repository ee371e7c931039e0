"""Published experiments as named presets over several protocols, one TOML file each, beside this module.

A file names what it covers: ``protocols``, ``methods`` and ``pairs`` of teacher and student; the first of each is the
default. It names the ``dataset`` and its import settings (``[import]``), and holds values of settings by section
(``[protocol]``, ``[student]``, ``[teacher]``, ``[training]``). ``[for.METHOD.SECTION]`` holds values for one method
alone, ``[[for.METHOD.pair]]`` those for one pair of networks: ``teacher``, ``student`` and the sections, as
``method.beta = 6``. Each value stands beside its source.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, ClassVar

from benchmark.errors import DoesNotApply, InputError, did_you_mean
from benchmark.settings import SECTIONS, validation_message

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Values = Mapping[str, Mapping[str, Any]]
"""Values of settings by section and name."""


@dataclass(frozen=True)
class Recipe:
    """A published experiment."""

    name: str
    text: str
    """The content of its file."""
    title: str
    source: str
    dataset: str
    protocols: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    """Backbones of teacher and student."""
    methods: tuple[str, ...]
    imported: Mapping[str, Any]
    """Settings of the data set's import."""
    shared: Values
    """Values for all methods."""
    by_method: Mapping[str, Values]
    """Values for one method, which replace the shared ones."""
    by_pair: Mapping[tuple[str, str, str], Values]
    """Values for one method, teacher and student, which replace those of the method."""

    def values(
        self, protocol: str, method: str, dataset: str, teacher: str | None = None, student: str | None = None
    ) -> dict[str, dict[str, Any]]:
        """Return the settings of a run by section, with both backbones.

        Args:
            protocol: name of the protocol.
            method: name of the method.
            dataset: name of the data set.
            teacher: backbone of the teacher; None means that of the first pair with the student.
            student: backbone of the student; None means that of the first pair with the teacher.

        Raises:
            DoesNotApply: the recipe does not cover this run.
        """
        for kind, name, covered in (
            ("data set", dataset, (self.dataset,)),
            ("protocol", protocol, self.protocols),
            ("method", method, self.methods),
        ):
            if name not in covered:
                raise DoesNotApply(f"recipe {self.name} is not for {kind} {name}; it covers {', '.join(covered)}")
        pairs = [(t, s) for t, s in self.pairs if teacher in (None, t) and student in (None, s)]
        if not pairs:
            requested = f"{student or 'any student'} from {teacher or 'any teacher'}"
            covered_pairs = ", ".join(f"{s} from {t}" for t, s in self.pairs)
            raise DoesNotApply(f"recipe {self.name} is not for {requested}; it covers {covered_pairs}")
        layers = self.shared, self.by_method.get(method, {}), self.by_pair.get((method, *pairs[0]), {})
        values = {
            section: {k: v for layer in layers for k, v in layer.get(section, {}).items()} for section in SECTIONS
        }
        values["teacher"]["backbone"], values["student"]["backbone"] = pairs[0]
        return values


@dataclass(frozen=True)
class _Pair:
    """Values for one pair of networks."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = {"extra": "forbid"}

    teacher: str
    student: str
    method: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Method:
    """Values for one method."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = {"extra": "forbid"}

    protocol: dict[str, Any] = field(default_factory=dict)
    method: dict[str, Any] = field(default_factory=dict)
    student: dict[str, Any] = field(default_factory=dict)
    teacher: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    pair: tuple[_Pair, ...] = ()


@dataclass(frozen=True)
class _File:
    """The keys of a recipe's file; ``import`` and ``for`` are words of Python and end in an underscore here."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = {
        "extra": "forbid",
        "alias_generator": lambda name: name.removesuffix("_"),
    }

    title: str
    source: str
    dataset: str
    protocols: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    methods: tuple[str, ...]
    import_: dict[str, Any] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    student: dict[str, Any] = field(default_factory=dict)
    teacher: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    for_: dict[str, _Method] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("protocols", "pairs", "methods"):
            entries = getattr(self, key)
            if not entries:
                raise InputError(f"{key} is empty")
            if len(set(entries)) < len(entries):
                raise InputError(f"{key} names an entry twice")
        for method, values in self.for_.items():
            if method not in self.methods:
                raise InputError(f"[for.{method}]: no such method in the recipe; {did_you_mean(method, self.methods)}")
            for pair in values.pair:
                if (pair.teacher, pair.student) not in self.pairs:
                    raise InputError(f"[[for.{method}.pair]]: the recipe has no {pair.student} from {pair.teacher}")


def recipe_names() -> list[str]:
    """Return the names of all recipes in alphabetical order."""
    names = (file.name for file in files("benchmark.recipes").iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def load_recipe(name: str) -> Recipe:
    """Return the recipe of that name.

    Raises:
        InputError: there is no such recipe; the message names the nearest ones.
    """
    known = recipe_names()
    if name not in known:
        raise InputError(f"unknown recipe {name!r}; {did_you_mean(name, known, count=2, cutoff=0.5)}")
    return parse_recipe(name, files("benchmark.recipes").joinpath(f"{name}.toml").read_text(encoding="utf-8"))


def parse_recipe(name: str, text: str) -> Recipe:
    """Return the recipe in a file's text. Names and values of settings are checked when a run is planned.

    Raises:
        InputError: the text is not TOML, a key is unknown or missing, or a value has a wrong type.
    """
    from pydantic import ValidationError

    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"recipe {name} is not TOML ({error})") from None
    try:
        file: _File = _adapter().validate_python(table)
    except ValidationError as error:
        tables = _File, _Method, _Pair
        keys = [key.removesuffix("_") for table in tables for key in table.__dataclass_fields__]
        raise InputError(f"recipe {name}: {validation_message(error, keys)}") from None
    return Recipe(
        name=name,
        text=text,
        title=file.title,
        source=file.source,
        dataset=file.dataset,
        protocols=file.protocols,
        pairs=file.pairs,
        methods=file.methods,
        imported=file.import_,
        shared={section: getattr(file, section) for section in SECTIONS if section != "method"},
        by_method={
            method: {section: getattr(values, section) for section in SECTIONS} for method, values in file.for_.items()
        },
        by_pair={
            (method, pair.teacher, pair.student): {"method": pair.method, "training": pair.training}
            for method, values in file.for_.items()
            for pair in values.pair
        },
    )


@cache
def _adapter() -> TypeAdapter[_File]:
    from pydantic import TypeAdapter

    return TypeAdapter(_File)
