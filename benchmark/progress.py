"""Where work that takes time reports to. The command line draws a bar; a library user hears nothing."""

from __future__ import annotations

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
