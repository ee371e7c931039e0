"""What the terminal shows of a sweep: the status of its jobs, and a live table while they run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from benchmark.display.console import console, say
from benchmark.display.format import duration, percent
from benchmark.display.tables import print_table
from benchmark.records.run_label import format_label, parse_label
from benchmark.sweep.execution import Overhead
from benchmark.sweep.executors.base import Outcome
from benchmark.sweep.jobs import Job, JobList, SkippedJob
from benchmark.sweep.status import STATES, SweepStatus
from benchmark.system.escaping import visible
from benchmark.system.progress import Event

_MAX_NAMES = 3
_MAX_ROWS = 24


def print_status(planned: JobList, status: SweepStatus) -> None:
    """Print a row for each protocol, data set and settings, then skip reasons, running jobs and failures."""
    rows: dict[tuple[str, str, str], Counter[str]] = {}
    for job in planned.jobs:
        own = job.request.protocol, job.dataset, _settings(job)
        # a job that reads no teacher joins the first row that differs from its own in settings of the teacher alone
        alike = (row for row in rows if not job.reads_teacher and (*row[:2], _without_teacher(row[2])) == own)
        conditions = next(alike, own)
        rows.setdefault(conditions, Counter())[status.states[job.key]] += 1
    for skipped in planned.skipped:
        request = skipped.request
        similar = [row for row in rows if row[:2] == (request.protocol, request.dataset)]
        conditions = similar[0] if similar else (request.protocol, request.dataset, request.preset)
        rows.setdefault(conditions, Counter())["n/a"] += skipped.seeds
    if len(rows) > 1:
        rows["all", "", ""] = sum(rows.values(), Counter[str]())
    shown = 3 if len({row[2] for row in rows} - {""}) > 1 else 2
    states = [*STATES, "n/a"]
    lines = [[*row[:shown], *(str(count[state]) for state in states)] for row, count in rows.items()]
    print_table("", [*("protocol", "dataset", "settings")[:shown], *states], lines)
    for line in (*skip_lines(planned.skipped), *_unfinished_lines(planned.jobs, status)):
        say(line)


def status_as_json(planned: JobList, status: SweepStatus) -> dict[str, Any]:
    """Return what ``print_status`` prints as JSON values."""
    states = status.count(planned.jobs)
    return {
        "runs": len(planned.jobs),
        **{state: states[state] for state in STATES},
        "not_applicable": [
            {
                "protocol": skipped.request.protocol, "dataset": skipped.request.dataset,
                "method": skipped.request.method, "seeds": skipped.seeds, "reason": skipped.reason,
            }
            for skipped in planned.skipped
        ],
        "failures": [
            {
                "protocol": job.request.protocol, "dataset": job.dataset, "method": job.request.method,
                "seed": job.seed, "key": job.key, "error": status.errors[job.key],
            }
            for job in planned.jobs if job.key in status.errors
        ],
    }  # fmt: skip


def time_estimate(
    jobs: Sequence[Job], seconds: Mapping[str, float], n_jobs: int, overhead: Overhead | None = None
) -> str:
    """Return a line that says how many runs are left and how long they take.

    Args:
        jobs: the runs that are left.
        seconds: expected seconds by job key; unknown ones are left out.
        n_jobs: runs at a time.
        overhead: what the sweep does beside the runs; None to leave it out.
    """
    if not jobs:
        return "nothing to do"
    known = [seconds[job.key] for job in jobs if job.key in seconds]
    at_a_time = max(1, min(n_jobs, len(jobs)))
    left = f"{_count(len(jobs), 'run')} left, {at_a_time} at a time"
    parts = []
    if overhead is not None and overhead.starts:
        parts.append(_count(overhead.starts, "start") + " of a process")
    if overhead is not None and overhead.teachers:
        parts.append(f"{_count(overhead.teachers, 'teacher')} to train unless kept from before")
    beside = f"; beside them {' and '.join(parts)}" if parts else ""
    if not known:
        return f"{left}: time unknown (there is no similar earlier record){beside}"
    unknown = len(jobs) - len(known)
    rest = f"; {unknown} of them have no similar earlier record" if unknown else ""
    total = sum(known) + (0.0 if overhead is None else overhead.seconds)
    return f"{left}: about {duration(total / at_a_time)} (by earlier records{rest}){beside}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


class SweepTable:
    """The observer of a sweep: a live table of running jobs on a terminal, and a line for each job that ends.

    It is a context manager; the live table is shown within its block.
    """

    def __init__(self, jobs: Sequence[Job], seconds: Mapping[str, float], n_jobs: int) -> None:
        """
        Args:
            jobs: the jobs of the sweep.
            seconds: expected seconds by job key; unknown ones are left out.
            n_jobs: jobs that run at a time.
        """
        self._console = console(error=True)
        self._expected = {job.key: seconds.get(job.key) for job in jobs}
        self._count = len(jobs)
        self._n_jobs = max(1, n_jobs)
        self._began = time.monotonic()
        self._durations: list[float] = []
        self._failed = 0
        self._running: dict[str, _Row] = {}
        self._live = Live(get_renderable=self._draw, console=self._console, transient=True, refresh_per_second=4)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def __call__(self, job: Job, event: Event | Outcome) -> None:
        """Show an event or the outcome of a job."""
        if isinstance(event, Outcome):
            self._finish(job, event)
        elif event.kind == "message":
            self._print(event.text)
        else:
            row = self._running.setdefault(job.key, _Row(job, time.monotonic()))
            row.update(event)

    def _print(self, line: str) -> None:
        """Print a line above the table."""
        self._console.print(visible(line), soft_wrap=True)

    def _finish(self, job: Job, outcome: Outcome) -> None:
        """Remove the row of a job and print its outcome. A busy job is not finished."""
        row = self._running.pop(job.key)
        if outcome.status == "busy":
            self._print(f"{job}: another process is running it; left for the end")
            return
        seconds = time.monotonic() - row.began
        self._durations.append(seconds)
        self._failed += outcome.status == "failed"
        del self._expected[job.key]
        position = f"[{len(self._durations):>{len(str(self._count))}}/{self._count}]"
        if outcome.value is None:
            self._print(f"{position} {job}: failed: {outcome.error}")
        else:
            self._print(f"{position} {job}: {percent(outcome.value)} % in {duration(seconds)}")

    def _draw(self) -> Group:
        finished = len(self._durations)
        facts = [f"{finished} of {self._count} finished"]
        if self._failed:
            facts.append(f"{self._failed} failed")
        facts.append(f"for {duration(time.monotonic() - self._began)}")
        left = self._seconds_left()
        if left is not None:
            facts.append(f"about {duration(left)} left")
        head = Table.grid(padding=(0, 1))
        head.add_row(ProgressBar(total=self._count, completed=finished, width=20), Text(", ".join(facts)))
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(ratio=3, no_wrap=True, overflow="ellipsis")
        table.add_column(justify="right", no_wrap=True)
        table.add_column(ratio=4, no_wrap=True, overflow="ellipsis")
        rows = list(self._running.values())
        for row in rows[:_MAX_ROWS]:
            share = f"{100 * row.done // row.steps} %" if row.steps else ""
            table.add_row(Text(visible(str(row.job))), share, Text(visible(f"{row.title}  {row.facts}"), style="dim"))
        if len(rows) > _MAX_ROWS:
            table.add_row(f"and {len(rows) - _MAX_ROWS} more", "", "")
        return Group(head, table)

    def _seconds_left(self) -> float | None:
        """Return the seconds left by earlier records, or by the mean job of this sweep if a job has none."""
        mean = sum(self._durations) / len(self._durations) if self._durations else None
        times = [mean if seconds is None else seconds for seconds in self._expected.values()]
        known = [seconds for seconds in times if seconds is not None]
        if len(known) < len(times):
            return None
        elapsed = sum(time.monotonic() - row.began for row in self._running.values())
        return max(0.0, sum(known) - elapsed) / min(self._n_jobs, max(1, len(times)))


@dataclass
class _Row:
    """A running job and the piece of its work that runs now."""

    job: Job
    began: float
    title: str = ""
    done: int = 0
    steps: int = 0
    facts: str = ""

    def update(self, event: Event) -> None:
        if event.kind == "started":
            self.title, self.done, self.steps, self.facts = event.text, 0, event.steps, ""
        elif event.kind == "advanced":
            self.done, self.facts = event.done, event.text


def _settings(job: Job) -> str:
    """Return the run label of a job without the method's own settings."""
    name, changed = parse_label(job.preset)
    return "+".join([name, *(setting for setting in changed if not setting.startswith("method."))])


def _without_teacher(label: str) -> str:
    name, changed = parse_label(label)
    return format_label(name, [setting for setting in changed if not setting.startswith("teacher.")])


def skip_lines(skipped: Sequence[SkippedJob]) -> Iterator[str]:
    """Yield a line for every reason, with the methods and protocols that it holds for."""
    methods: dict[str, dict[str, None]] = {}
    places: dict[str, dict[str, None]] = {}
    for each in skipped:
        prefix = f"method {each.request.method} does not apply to {each.request.protocol}: "
        reason = each.reason.removeprefix(prefix)
        methods.setdefault(reason, {})[each.request.method] = None
        of_any_data = each.reason.startswith(prefix)
        place = each.request.protocol if of_any_data else f"{each.request.protocol} {each.request.dataset}"
        places.setdefault(reason, {})[place] = None
    for reason in methods:
        yield f"n/a: {_few(methods[reason], 'methods')} on {_few(places[reason], 'protocols')}: {reason}"


def _unfinished_lines(jobs: Sequence[Job], status: SweepStatus) -> Iterator[str]:
    yield from (f"running: {job}" for job in jobs if status.states[job.key] == "running")
    yield from (f"failed: {job}: {status.errors[job.key]}" for job in jobs if job.key in status.errors)


def _few(names: Mapping[str, None], what: str) -> str:
    return ", ".join(names) if len(names) <= _MAX_NAMES else f"{len(names)} {what}"
