"""The only place that prints names: what stands in them is shown as it is, not obeyed as markup, emoji or control."""

from __future__ import annotations

import sys
from typing import IO, TYPE_CHECKING

from benchmark.system.escaping import SPELLED, visible

if TYPE_CHECKING:
    from rich.console import Console


def say(text: str = "", *, error: bool = False) -> None:
    """Print lines of text on standard output, or on standard error."""
    print("\n".join(map(visible, text.split("\n"))), file=sys.stderr if error else sys.stdout)


def console(*, error: bool = False, width: int | None = None) -> Console:
    """Return a console that takes no text for markup or emoji.

    Args:
        error: whether it prints on standard error.
        width: its columns; None means those of the terminal.
    """
    from rich.console import Console

    return Console(stderr=error, highlight=False, markup=False, emoji=False, width=width)


def spell_missing_signs(*streams: IO[str]) -> None:
    """Make streams whose encoding lacks a sign spell it, as ``+-`` for ``±``; without this, printing it is an error."""
    for stream in streams:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=SPELLED)
