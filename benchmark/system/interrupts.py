"""Signals that ask a command to stop."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

_signals: list[int] = []
_deferrals = 0
_announce = True


def handle_stop_signal(signum: int, frame: object) -> None:
    """Record a stop signal and raise ``KeyboardInterrupt``.

    This is a signal handler. Within ``defer_signals`` it says so at the first signal and raises at the second. Code
    that swallows the exception does not lose the request: ``stop_requested`` still reports it.
    """
    _signals.append(signum)
    if not _deferrals or len(_signals) > 1:
        raise KeyboardInterrupt
    if _announce:
        os.write(2, b"\nstopping after this step; again to stop now\n")


def stop_silently() -> None:
    """Say nothing when a signal is put off: another process says what happens."""
    global _announce
    _announce = False


def stop_requested() -> bool:
    """Return whether a stop signal has arrived."""
    return bool(_signals)


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Put off the first stop signal until the block ends. Code within may poll ``stop_requested``."""
    global _deferrals
    _deferrals += 1
    try:
        yield
    finally:
        _deferrals -= 1
    if stop_requested() and not _deferrals:
        raise KeyboardInterrupt


@contextlib.contextmanager
def sigint_handled() -> Iterator[None]:
    """Handle Ctrl-C by ``handle_stop_signal`` within the block and forget its signals afterwards.

    Signals reach the main thread only. In any other thread this changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier_signals = len(_signals)
    earlier_handler = signal.signal(signal.SIGINT, handle_stop_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, earlier_handler or signal.SIG_DFL)
        del _signals[earlier_signals:]
