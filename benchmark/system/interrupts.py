"""Signals that ask a command to stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

_signals: list[int] = []
_holders = 0


def handle_stop_signal(signum: int, frame: object) -> None:
    """Handle such a signal: remember it, and raise ``KeyboardInterrupt``, which may fall into code that swallows it.

    While something is ``defer_signals`` the first signal waits; a second one does not.
    """
    _signals.append(signum)
    if not _holders or len(_signals) > 1:
        raise KeyboardInterrupt


def stop_requested() -> bool:
    """Whether one has come."""
    return bool(_signals)


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Put off the first signal to stop until the block ends. Code within may poll ``stop_requested``."""
    global _holders
    _holders += 1
    try:
        yield
    finally:
        _holders -= 1
    if stop_requested() and not _holders:
        raise KeyboardInterrupt


@contextlib.contextmanager
def sigint_handled() -> Iterator[None]:
    """Within it Ctrl-C is handled by ``heed``, and what came is forgotten at the end: for one call of a program.

    In another thread than the main one, which no signal reaches, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = len(_signals)
    before = signal.signal(signal.SIGINT, handle_stop_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
        del _signals[came:]
