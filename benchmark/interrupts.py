"""Signals that ask a command to stop."""

from __future__ import annotations

_signals: list[int] = []


def heed(signum: int, frame: object) -> None:
    """Handle such a signal: remember it, and raise ``KeyboardInterrupt``, which may fall into code that swallows it."""
    _signals.append(signum)
    raise KeyboardInterrupt


def asked() -> bool:
    """Whether one has come."""
    return bool(_signals)
