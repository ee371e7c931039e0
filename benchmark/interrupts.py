"""Signals that ask a command to stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

_signals: list[int] = []
_holders = 0


def heed(signum: int, frame: object) -> None:
    """Handle such a signal: remember it, and raise ``KeyboardInterrupt``, which may fall into code that swallows it.

    While something is ``held`` the first signal waits; a second one does not.
    """
    _signals.append(signum)
    if not _holders or len(_signals) > 1:
        raise KeyboardInterrupt


def asked() -> bool:
    """Whether one has come."""
    return bool(_signals)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """What is done within is finished before a first signal is heeded, at the end; or ask ``asked`` on the way."""
    global _holders
    _holders += 1
    try:
        yield
    finally:
        _holders -= 1
    if asked() and not _holders:
        raise KeyboardInterrupt


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """Within it Ctrl-C is handled by ``heed``, and what came is forgotten at the end: for one call of a program.

    In another thread than the main one, which no signal reaches, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = len(_signals)
    before = signal.signal(signal.SIGINT, heed)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
        del _signals[came:]
