"""What a person sees of a sweep: how its cells stand, and the live table while they are carried out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from benchmark.display.tables import print_table
from benchmark.records.run_label import parse_label
from benchmark.sweep.executors.base import Outcome
from benchmark.sweep.jobs import STATES, Cell, Cells, Excluded, Survey

_MOST_NAMES = 3
_MOST_ROWS = 24


def print_survey(planned: Cells, found: Survey) -> None:
    """A row for each protocol, data set and settings; why some do not apply; what is at work and what has failed."""
    rows: dict[tuple[str, str, str], Counter[str]] = {}
    for cell in planned.cells:
        place = cell.request.protocol, cell.dataset, _settings(cell)
        rows.setdefault(place, Counter())[found.states[cell.key]] += 1
    for excluded in planned.excluded:
        request = excluded.request
        places = [place for place in rows if place[:2] == (request.protocol, request.dataset)]
        place = places[0] if places else (request.protocol, request.dataset, request.preset)
        rows.setdefault(place, Counter())["n/a"] += excluded.seeds
    if len(rows) > 1:
        rows["all", "", ""] = sum(rows.values(), Counter[str]())
    shown = 3 if len({place[2] for place in rows} - {""}) > 1 else 2
    states = [*STATES, "n/a"]
    lines = [[*place[:shown], *(str(count[state]) for state in states)] for place, count in rows.items()]
    print_table("", [*("protocol", "dataset", "settings")[:shown], *states], lines)
    for line in (*reasons(planned.excluded), *_at_work(planned.cells, found)):
        print(line)  # noqa: T201


def describe(planned: Cells, found: Survey) -> dict[str, Any]:
    """The same as JSON values."""
    states = found.count(planned.cells)
    return {
        "cells": len(planned.cells),
        **{state: states[state] for state in STATES},
        "not_applicable": [
            {
                "protocol": x.request.protocol, "dataset": x.request.dataset, "method": x.request.method,
                "seeds": x.seeds, "reason": x.reason,
            }
            for x in planned.excluded
        ],
        "failures": [
            {
                "protocol": cell.request.protocol, "dataset": cell.dataset, "method": cell.request.method,
                "seed": cell.seed, "key": cell.key, "error": found.errors[cell.key],
            }
            for cell in planned.cells if cell.key in found.errors
        ],
    }  # fmt: skip


def estimate(cells: Sequence[Cell], seconds: Mapping[str, float], workers: int) -> str:
    """A line that says how long cells may take."""
    known = [seconds[cell.key] for cell in cells if cell.key in seconds]
    lanes = max(1, min(workers, len(cells)))
    told = f"about {duration(sum(known) / lanes)}" if known else "time not known"
    unlike = len(cells) - len(known)
    without = f"; {unlike} of them have no earlier record like them" if unlike and known else ""
    source = "by earlier records" if known else "no earlier record is like them"
    return f"{_cells(len(cells))} to do, {lanes} at a time: {told} ({source}{without})"


def duration(seconds: float) -> str:
    """Seconds in words: 34 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


class Board:
    """The ``Watch`` of a person: on a terminal a live table of what is at work, elsewhere a line per finished run.

    seconds: what the cells may take, by key; workers: how many are carried out at a time.
    """

    def __init__(self, cells: Sequence[Cell], seconds: Mapping[str, float], workers: int) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._left = {cell.key: seconds.get(cell.key) for cell in cells}
        self._count = len(cells)
        self._workers = max(1, workers)
        self._began = time.monotonic()
        self._took: list[float] = []
        self._failed = 0
        self._at_work: dict[str, _Row] = {}
        self._live = Live(get_renderable=self._draw, console=self._console, transient=True, refresh_per_second=4)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def started(self, cell: Cell) -> None:
        """A row more."""
        self._at_work[cell.key] = _Row(cell, time.monotonic())

    def advanced(self, cell: Cell, title: str, done: int, steps: int, facts: str) -> None:
        """What its row says."""
        row = self._at_work[cell.key]
        row.title, row.done, row.steps, row.facts = title, done, steps, facts

    def said(self, message: str) -> None:
        """A line above the table."""
        self._console.print(message, markup=False, soft_wrap=True)

    def finished(self, cell: Cell, outcome: Outcome) -> None:
        """A row less, and a line that says what came of it. What another process is at is not over yet."""
        row = self._at_work.pop(cell.key)
        if outcome.status == "busy":
            self.said(f"{cell}: another process is at it; left for the end")
            return
        took = time.monotonic() - row.began
        self._took.append(took)
        self._failed += outcome.status == "failed"
        del self._left[cell.key]
        position = f"[{len(self._took):>{len(str(self._count))}}/{self._count}]"
        if outcome.value is None:
            self.said(f"{position} {cell}: failed: {outcome.error}")
        else:
            self.said(f"{position} {cell}: {100 * outcome.value:.2f} % in {duration(took)}")

    def _draw(self) -> Group:
        over = len(self._took)
        facts = [f"{over} of {self._count} finished"]
        if self._failed:
            facts.append(f"{self._failed} failed")
        facts.append(f"for {duration(time.monotonic() - self._began)}")
        left = self._seconds_left()
        if left is not None:
            facts.append(f"about {duration(left)} left")
        head = Table.grid(padding=(0, 1))
        head.add_row(ProgressBar(total=self._count, completed=over, width=20), Text(", ".join(facts)))
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(ratio=3, no_wrap=True, overflow="ellipsis")
        table.add_column(justify="right", no_wrap=True)
        table.add_column(ratio=4, no_wrap=True, overflow="ellipsis")
        rows = list(self._at_work.values())
        for row in rows[:_MOST_ROWS]:
            share = f"{100 * row.done // row.steps} %" if row.steps else ""
            table.add_row(Text(str(row.cell)), share, Text(f"{row.title}  {row.facts}", style="dim"))
        if len(rows) > _MOST_ROWS:
            table.add_row(f"and {len(rows) - _MOST_ROWS} more", "", "")
        return Group(head, table)

    def _seconds_left(self) -> float | None:
        """By earlier records; where a cell has none, by what the runs of this sweep took."""
        usual = sum(self._took) / len(self._took) if self._took else None
        times = [usual if seconds is None else seconds for seconds in self._left.values()]
        known = [seconds for seconds in times if seconds is not None]
        if len(known) < len(times):
            return None
        gone = sum(time.monotonic() - row.began for row in self._at_work.values())
        return max(0.0, sum(known) - gone) / min(self._workers, max(1, len(times)))


@dataclass
class _Row:
    """What is known of a run at work."""

    cell: Cell
    began: float
    title: str = ""
    done: int = 0
    steps: int = 0
    facts: str = ""


def _settings(cell: Cell) -> str:
    """The preset's label without the method's own settings."""
    name, changed = parse_label(cell.preset)
    return "+".join([name, *(setting for setting in changed if not setting.startswith("method."))])


def reasons(excluded: Sequence[Excluded]) -> Iterator[str]:
    """A line for every reason, with what it holds for."""
    methods: dict[str, dict[str, None]] = {}
    places: dict[str, dict[str, None]] = {}
    for x in excluded:
        named = f"method {x.request.method} does not apply to {x.request.protocol}: "
        reason = x.reason.removeprefix(named)
        methods.setdefault(reason, {})[x.request.method] = None
        place = x.request.protocol if x.reason.startswith(named) else f"{x.request.protocol} {x.request.dataset}"
        places.setdefault(reason, {})[place] = None
    for reason in methods:
        yield f"n/a: {_few(methods[reason], 'methods')} on {_few(places[reason], 'protocols')}: {reason}"


def _at_work(cells: Sequence[Cell], found: Survey) -> Iterator[str]:
    yield from (f"running: {cell}" for cell in cells if found.states[cell.key] == "running")
    yield from (f"failed: {cell}: {found.errors[cell.key]}" for cell in cells if cell.key in found.errors)


def _few(names: Mapping[str, None], what: str) -> str:
    return ", ".join(names) if len(names) <= _MOST_NAMES else f"{len(names)} {what}"


def _cells(count: int) -> str:
    return f"{count} cell" if count == 1 else f"{count} cells"
