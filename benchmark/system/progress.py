"""Where work that takes time reports to. The command line draws a bar; a library user hears nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Progress(Protocol):
    """Receives what happens while work goes on."""

    def say(self, message: str) -> None:
        """A line worth keeping on the screen."""

    def begin(self, title: str, steps: int) -> None:
        """A piece of work of so many steps starts."""

    def advance(self, done: int, facts: str) -> None:
        """So many of its steps are done; ``facts`` holds the latest loss, the rate and the like."""

    def end(self) -> None:
        """The piece of work is over."""


class Silent:
    """Says nothing."""

    def say(self, message: str) -> None:
        """Nothing."""

    def begin(self, title: str, steps: int) -> None:
        """Nothing."""

    def advance(self, done: int, facts: str) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


class InterruptibleProgress:
    """A ``Progress`` that raises ``KeyboardInterrupt`` at its next step once ``stopped``.

    The one that the signal raised may have fallen into code that swallows it, such as a library being imported.
    """

    def __init__(self, progress: Progress, stopped: Callable[[], bool]) -> None:
        self._progress = progress
        self._stopped = stopped

    def say(self, message: str) -> None:
        """As the progress it stands before."""
        self._progress.say(message)

    def begin(self, title: str, steps: int) -> None:
        """As the progress it stands before."""
        self._stop_if_requested()
        self._progress.begin(title, steps)

    def advance(self, done: int, facts: str) -> None:
        """As the progress it stands before."""
        self._stop_if_requested()
        self._progress.advance(done, facts)

    def end(self) -> None:
        """As the progress it stands before."""
        self._progress.end()

    def _stop_if_requested(self) -> None:
        if self._stopped():
            raise KeyboardInterrupt
