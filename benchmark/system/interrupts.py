"""Signals that ask a command to stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

_signals: list[int] = []
_holders = 0


def handle_stop_signal(signum: int, frame: object) -> None:
    """Remember a signal and raise ``KeyboardInterrupt``.

    Other code may swallow the exception, so long work also polls ``stop_requested``. Within ``defer_signals`` the first
    signal waits until the block ends; the second one raises at once.
    """
    _signals.append(signum)
    if not _holders or len(_signals) > 1:
        raise KeyboardInterrupt


def stop_requested() -> bool:
    """Return whether a signal has arrived."""
    return bool(_signals)


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Defer the first signal until the block ends. Code in the block may poll ``stop_requested``."""
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
    """Handle Ctrl-C by ``handle_stop_signal`` within the block, and forget its signals at the end.

    Signals reach the main thread only: in other threads the block changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = len(_signals)
    before = signal.signal(signal.SIGINT, handle_stop_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
        del _signals[earlier:]
