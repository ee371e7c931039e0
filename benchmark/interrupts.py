"""Signals that ask a command to stop."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

_signals: list[int] = []
_sheltered = 0


def heed(signum: int, frame: object) -> None:
    """Handle such a signal: remember it, and raise ``KeyboardInterrupt``, which may fall into code that swallows it."""
    _signals.append(signum)
    if not _sheltered:
        raise KeyboardInterrupt


def asked() -> bool:
    """Whether one has come."""
    return bool(_signals)


@contextlib.contextmanager
def sheltered() -> Iterator[None]:
    """Within, what is at hand is finished: a signal that ``heed`` handles raises at the end of it."""
    global _sheltered
    before = len(_signals)
    _sheltered += 1
    try:
        yield
    finally:
        _sheltered -= 1
    if len(_signals) > before and not _sheltered:
        raise KeyboardInterrupt
