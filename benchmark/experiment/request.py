"""What a user asks for, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["missing", "retry-failed", "force", "only-cache"]
"""Which runs are measured.

``missing``: those without a finished record. ``retry-failed``: those with a failed record. ``force``: all.
``only-cache``: none; a missing record raises ``InputError``.
"""


@dataclass(frozen=True)
class Request:
    """One protocol, method and data set with settings: everything but the seed."""

    protocol: str
    method: str
    dataset: str = "glyphs"
    preset: str = "quick"
    """A preset of the protocol, the name of a recipe, or a file of tuned settings or a folder of such files."""
    overrides: tuple[str, ...] = ()
    """Settings that differ from the preset, as ``section.name=value``."""
    limit_steps: int | None = None
    """Training steps of teacher and student in place of those of the settings."""
    complete: bool = False
    """True if ``overrides`` are relative to the defaults of the settings: the preset then only labels the run."""
