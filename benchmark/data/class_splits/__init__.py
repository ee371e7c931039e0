"""Published splits of classes into train, val and test: lists of class names, and their sources."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.errors import InputError


@dataclass(frozen=True)
class ClassSplit:
    """A named split of classes.

    Attributes:
        name: the split's name.
        classes: class names of ``train``, ``val`` and ``test``.
    """

    name: str
    classes: Mapping[str, tuple[str, ...]]

    def indices(self, known: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """Return the split as class indices.

        Args:
            known: names of all classes, in order.

        Returns:
            Ascending positions in ``known`` for each part.

        Raises:
            InputError: a class of the split is not in ``known``.
        """
        position = {name: c for c, name in enumerate(known)}
        missing = [name for names in self.classes.values() for name in names if name not in position]
        if missing:
            raise InputError(f"class {missing[0]!r} of split {self.name} is missing ({len(missing)} are); get it again")
        return {part: tuple(sorted(position[name] for name in names)) for part, names in self.classes.items()}


def load_class_split(name: str) -> ClassSplit:
    """Load the split that ships as ``name.json`` beside this file."""
    values = json.loads(Path(__file__).with_name(f"{name}.json").read_text(encoding="utf-8"))
    return ClassSplit(name, {part: tuple(values[part]) for part in ("train", "val", "test")})
