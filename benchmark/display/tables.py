"""Tables of records and comparisons on standard output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from benchmark.display.console import console, say
from benchmark.display.format import percent
from benchmark.system.escaping import visible

if TYPE_CHECKING:
    from benchmark.records.schema import Record
    from benchmark.report.compare import Comparison

MEANINGS = {
    "episode": "draws of episodes from these images (what papers print)",
    "image": "other images of these classes",
    "class": "other novel classes (jackknife)",
}
"""What each interval within one run covers."""

_IDENTITY = (
    "key", "status", "provenance", "protocol", "dataset", "preset", "method", "backbone", "teacher", "seed", "n",
    "started", "seconds", "peak_memory_mb", "arrays",
)  # fmt: skip


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str | None = None
) -> None:
    """Print a table on standard output.

    Columns of numbers are right-aligned. Without a terminal the table is as wide as it needs to be.

    Args:
        title: the line above; empty for none.
        columns: the names of the columns.
        rows: the cells of each row.
        caption: the line below.
    """
    target = console()
    if not target.is_terminal:
        target = console(width=max(target.width, 200))
    if title.startswith("\n"):
        say()
    table = Table(
        title=visible(title.lstrip("\n")),
        title_justify="left",
        title_style="bold",
        caption=None if caption is None else visible(caption),
        caption_justify="left",
        box=None,
        pad_edge=False,
    )
    for i, column in enumerate(columns):
        cells = [row[i] for row in rows if row[i]]
        numeric = bool(cells) and all(cell[0].isdigit() or cell[0] in "-+±" for cell in cells)
        table.add_column(visible(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(visible, row))
    target.print(table)


def print_records(records: Sequence[Record]) -> None:
    """Print the runs of one request: a row per seed, then the mean over seeds with its interval."""
    done = [r for r in records if r["status"] == "done"]
    first = records[0]
    identity = (first[name] for name in ("protocol", "dataset", "preset", "method"))
    title = "  ".join([*identity, f"{first['backbone']} from {first['teacher']}"])
    references = list(done[0]["references"]) if done else []
    kinds = list(done[0]["intervals"]) if done else []
    rows = []
    for r in records:
        if r["status"] == "done":
            rows.append([
                str(r["seed"]), percent(r["value"]), *(_half(r, kind) for kind in kinds),
                *(percent(r["references"][name]["value"]) for name in references),
                str(r["student_facts"]["steps"]), f"{r['student_facts']['seconds']:.0f}",
            ])  # fmt: skip
        else:
            rows.append([str(r["seed"]), "failed", *[""] * (len(kinds) + len(references) + 2)])
    columns = [
        "seed",
        f"{done[0]['metric']} %" if done else "",
        *(f"± {kind}" for kind in kinds),
        *references,
        "steps",
        "train s",
    ]
    print_table(title, columns, rows)
    for line in _summary(done):
        say(line)


def print_run(record: Record) -> None:
    """Print one record: its identity, measured values, costs, environment and every setting."""
    head = [[name, str(record[name])] for name in _IDENTITY if name in record]
    if record["status"] == "done":
        scores = {record["metric"]: record, **record["references"]}
        kinds = list(dict.fromkeys(kind for score in scores.values() for kind in score["intervals"]))
        rows = [
            [name, percent(score["value"]), *(_half(score, kind) for kind in kinds)] for name, score in scores.items()
        ]
        print_table(f"{record['protocol']}  {record['dataset']}  {record['method']}", ["what", "value"], head)
        print_table("\nmeasured", ["what", "%", *(f"± {kind}" for kind in kinds)], rows)
        for kind in kinds:
            say(f"± {kind}: 95 %, {MEANINGS.get(kind, kind)}")
    else:
        print_table("run", ["what", "value"], [*head, ["error", str(record.get("error"))]])
    for section in ("facts", "student_facts", "teacher_facts", "environment"):
        if record.get(section):
            rows = [[name, str(value)] for name, value in record[section].items()]
            print_table(f"\n{section.replace('_', ' ')}", ["what", "value"], rows)
    settings = [
        [f"{section}.{name}" if isinstance(part, dict) else section, str(value)]
        for section, part in record.get("config", {}).items()
        for name, value in (part.items() if isinstance(part, dict) else [("", part)])
    ]
    print_table("\nsettings", ["name", "value"], settings)


def print_comparisons(comparisons: Sequence[Comparison]) -> None:
    """Print a row for each pair of methods under each set of conditions, notes, and a sentence for each pair."""
    from benchmark.report.compare import heading_of, sentences

    fields = heading_of(comparisons).fields
    rows = []
    for c in comparisons:
        conditions = ["all of these", *[""] * (len(fields) - 1)]
        if c.conditions is not None:
            conditions = [getattr(c.conditions, name) for name in fields]
        halves = [getattr(c.within.get(kind), "half_width", None) for kind in ("episode", "image", "class")]
        rows.append([
            *conditions, c.a, c.b, *map(percent, c.means), percent(c.paired.interval.mean, signed=True),
            *("" if half is None else f"± {percent(half)}" for half in (c.paired.interval.half_width, *halves)),
            str(len(c.differences)), *(_number(x) for x in (c.paired.effect, c.p, c.adjusted_p)),
        ])  # fmt: skip
    names = {"backbone": "student"}
    columns = [
        *(names.get(name, name) for name in fields), "A", "B", "A %", "B %", "A - B", "± seeds", "± episode", "± image",
        "± class", "seeds", "d", "p", "p (Holm)",
    ]  # fmt: skip
    print_table("differences", columns, rows)
    say("± seeds: 95 % Student t, other trainings; the others: these trained networks only")
    if any(c.conditions is None for c in comparisons):
        say("all: the mean over these conditions within each seed; the seed is the observation")
    for line in sentences(comparisons):
        say(line)


def _summary(done: Sequence[Record]) -> list[str]:
    if not done:
        return []
    from benchmark.statistics import seed_interval

    interval = seed_interval([r["value"] for r in done])
    lines = []
    mean = percent(interval.mean)
    if interval.half_width is not None:
        half = percent(interval.half_width)
        lines.append(f"mean over {interval.n} seeds: {mean} ± {half} (95 % Student t over seeds)")
    elif interval.n > 1:
        lines.append(f"all {interval.n} seeds reach {mean}: no spread, so no interval over seeds")
    else:
        lines.append("one seed: no interval for the method; --seeds 0,1,2,3,4 gives one")
    return lines + [f"± {kind}: 95 %, {MEANINGS[kind]}" for kind in done[0]["intervals"] if kind in MEANINGS]


def _half(record: dict[str, Any], kind: str) -> str:
    half = record["intervals"].get(kind, {}).get("half_width")
    sign = {0.0: "+", 1.0: "-"}.get(record["value"], "±")  # at the edge the interval has one side
    return "" if half is None else f"{sign} {percent(half)}"


def _number(value: float | None) -> str:
    return "" if value is None else "< .001" if 0 < value < 0.001 else f"{value:.3f}"
