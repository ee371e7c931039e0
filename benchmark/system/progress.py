"""How running work reports: one callback that receives events. A terminal draws them; a library user may ignore them.

Working code calls the four methods of ``Progress``; whoever shows the work passes the callback.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Event:
    """One report of running work, which consists of pieces such as the training of one network."""

    kind: Literal["message", "started", "advanced", "ended"]
    """A line for the user, the start of a piece of work, an update on its steps, or its end."""
    text: str = ""
    """The line, the title of the piece, or its latest loss and learning rate."""
    done: int = 0
    """Steps done so far, of an ``advanced`` event."""
    steps: int = 0
    """Steps in all, of a ``started`` event."""
    unit: str = "steps"
    """What a step is, of a ``started`` event: ``images`` and the like."""


class Progress:
    """Reports running work to one callback."""

    _emit: Callable[[Event], object]

    def __init__(self, emit: Callable[[Event], object]) -> None:
        """
        Args:
            emit: receives every event, in the thread that does the work.
        """
        self._emit = emit

    def say(self, message: str) -> None:
        """Report a line that should stay on the screen."""
        self._emit(Event("message", message))

    def begin(self, title: str, steps: int, unit: str = "steps") -> None:
        """Report that a piece of work with ``steps`` steps starts; ``unit`` says what a step is."""
        self._emit(Event("started", title, steps=steps, unit=unit))

    def advance(self, done: int, facts: str) -> None:
        """Report that ``done`` steps are done. ``facts`` holds the latest loss, the learning rate and the like."""
        self._emit(Event("advanced", facts, done=done))

    def end(self) -> None:
        """Report that the piece of work is over."""
        self._emit(Event("ended"))


class Silent(Progress):
    """Reports nothing. A subclass may override single methods to hear some reports."""

    _emit = staticmethod(lambda event: None)

    def __init__(self) -> None: ...


class InterruptibleProgress(Progress):
    """Raises ``KeyboardInterrupt`` at the next step of the work after a stop was requested.

    A signal handler raises it as well, but that exception can be lost in code that swallows it, such as an import.
    """

    def __init__(self, progress: Progress, stopped: Callable[[], bool]) -> None:
        """
        Args:
            progress: receives the reports.
            stopped: whether the work should stop.
        """
        self._progress = progress
        self._stopped = stopped
        self.say = progress.say  # type: ignore[method-assign]
        self.end = progress.end  # type: ignore[method-assign]

    def begin(self, title: str, steps: int, unit: str = "steps") -> None:
        self._stop_if_requested()
        self._progress.begin(title, steps, unit)

    def advance(self, done: int, facts: str) -> None:
        self._stop_if_requested()
        self._progress.advance(done, facts)

    def _stop_if_requested(self) -> None:
        if self._stopped():
            raise KeyboardInterrupt
