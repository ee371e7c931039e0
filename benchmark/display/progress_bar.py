"""The progress bar of one run. It goes to standard error; standard output holds results only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.display.console import console
from benchmark.system.escaping import visible
from benchmark.system.progress import Event, Progress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


class Bar(Progress):
    """Shows a bar with loss, learning rate and time left. Without a terminal it prints plain lines."""

    def __init__(self) -> None:
        super().__init__(self._show)
        self._console = console(error=True)
        self._bar: tuple[RichProgress, TaskID] | None = None

    def _show(self, event: Event) -> None:
        match event.kind:
            case "message":
                self._print(event.text)
            case "started" if self._console.is_terminal:
                self._start_bar(event.text, event.steps)
            case "started":
                self._print(f"{event.text}: {event.steps} {event.unit}")
            case "advanced" if self._bar is not None:
                bar, task = self._bar
                bar.update(task, completed=event.done, facts=visible(event.text))
            case "ended" if self._bar is not None:
                self._bar[0].stop()
                self._bar = None

    def _print(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(visible(line), soft_wrap=True)

    def _start_bar(self, title: str, steps: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=20), MofNCompleteColumn(),
            TimeRemainingColumn(compact=True), TextColumn("{task.fields[facts]}", markup=False),
        )  # fmt: skip
        bar = Progress(*columns, console=self._console, transient=True, refresh_per_second=4)
        bar.start()
        self._bar = bar, bar.add_task(visible(title), total=steps, facts="")
