"""Names with fields, such as ``fewshot-{way}way{shot}shot`` or ``folder:{path:text}``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_FIELD = re.compile(r"\{(\w+):?(\w*)\}")
_TYPES: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "": ("[0-9]{1,9}", int),
    "decimal": (r"(?:0|[1-9][0-9]{0,8})(?:\.[0-9]{0,8}[1-9])?", float),
    "text": (".+?", str),
    "weights": (r".+\.(?:safetensors|pth|pt|th|bin|ckpt|tar|pkl)", str),
}
"""Field types: regular expression and converter by type name. A decimal has a single canonical form.
``weights`` is the path of a file of weights."""


@dataclass(frozen=True)
class NamePattern:
    """A parsed name: matches names and reads the values of their fields."""

    text: str
    """The name as registered."""
    types: Mapping[str, str]
    """Type name of each field."""
    regex: re.Pattern[str]

    @classmethod
    def parse(cls, text: str) -> NamePattern:
        """Parse a name. ``{name}`` is a whole number, ``{name:decimal}`` a decimal, ``{name:text}`` any text,
        ``{name:weights}`` a file of weights.

        Raises:
            ValueError: A field has an unknown type, or two fields have the same name.
        """
        first, *rest = _FIELD.split(text)
        names, types, literals = rest[::3], rest[1::3], rest[2::3]
        if unknown := set(types) - set(_TYPES):
            raise ValueError(f"{text}: no field type {', '.join(sorted(unknown))}")
        if len(set(names)) < len(names):
            raise ValueError(f"{text}: two fields of one name")
        fields = zip(names, types, literals, strict=True)
        regex = re.escape(first) + "".join(
            f"(?P<{name}>{_TYPES[kind][0]}){re.escape(literal)}" for name, kind, literal in fields
        )
        return cls(text, dict(zip(names, types, strict=True)), re.compile(regex))

    @classmethod
    def literal(cls, text: str) -> NamePattern:
        """Return a pattern without fields that matches ``text`` alone, braces included."""
        return cls(text, {}, re.compile(re.escape(text)))

    def match(self, name: str) -> dict[str, Any] | None:
        """Return the values of the fields by name, or None if ``name`` does not match."""
        match = self.regex.fullmatch(name)
        if match is None:
            return None
        return {field: _TYPES[self.types[field]][1](value) for field, value in match.groupdict().items()}

    @property
    def display_name(self) -> str:
        """The name with its fields in capitals: ``folder:PATH``."""
        return _FIELD.sub(lambda field: field[1].upper(), self.text)


def without_fields(text: str) -> str:
    """Return a name without the braces of its fields."""
    return re.sub("[{}]", "", text)
