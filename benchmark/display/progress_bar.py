"""The progress bar of one run. It goes to standard error, so that standard output holds results alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Bar:
    """A ``Progress`` on a terminal: a bar with loss, rate and time left; plain lines where there is none."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def say(self, message: str) -> None:
        """Print a line above the bar."""
        self._console.print(message, markup=False, soft_wrap=True)

    def begin(self, title: str, steps: int) -> None:
        """Show a new bar."""
        if not self._console.is_terminal:
            self.say(f"{title}: {steps} steps")
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=20), MofNCompleteColumn(),
            TimeRemainingColumn(compact=True), TextColumn("{task.fields[facts]}", markup=False),
        )  # fmt: skip
        self._progress = Progress(*columns, console=self._console, transient=True, refresh_per_second=4)
        self._progress.start()
        self._task = self._progress.add_task(title, total=steps, facts="")

    def advance(self, done: int, facts: str) -> None:
        """Move the bar."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, facts=facts)

    def end(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
        self._progress = self._task = None
