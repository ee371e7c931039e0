"""Tables of records and comparisons on standard output."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from benchmark.display.console import console, say
from benchmark.display.format import percent
from benchmark.display.layout import lay_out, wrap
from benchmark.records.run_label import networks
from benchmark.system.escaping import visible

if TYPE_CHECKING:
    from benchmark.records.schema import Record
    from benchmark.report.aggregation import Conditions, MethodResult
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
    """Print a table on standard output, see ``lay_out``. Without a terminal it is as wide as it needs to be.

    Args:
        title: the line above; empty for none.
        columns: the names of the columns.
        rows: the cells of each row.
        caption: the line below.
    """
    target = console()
    shown = [[visible(cell) for cell in row] for row in rows]
    lines = lay_out(
        "\n".join(map(visible, title.split("\n"))), [visible(column) for column in columns], shown,
        target.width if target.is_terminal else None, None if caption is None else visible(caption),
    )  # fmt: skip
    heading = len(wrap(title.split("\n")[0], target.width)) if title else 0
    for number, line in enumerate(lines):
        target.print(Text(line, style="bold" if number < heading else ""), soft_wrap=True)


def print_text(line: str) -> None:
    """Print a sentence on standard output, on a terminal broken at blanks."""
    target = console()
    for part in wrap(visible(line), target.width) if target.is_terminal else [line]:
        say(part)


def print_records(records: Sequence[Record]) -> None:
    """Print the runs of one request: a row per seed, then the mean over seeds with its interval."""
    from benchmark.report.references import record_facts, reference_values

    done = [r for r in records if r["status"] == "done"]
    first = records[0]
    identity = (first[name] for name in ("protocol", "dataset", "preset", "method"))
    title = visible("  ".join([*identity, networks(first["backbone"], first["teacher"])]))
    title += "".join(f"\n{', '.join(facts)}" for facts in [record_facts(r) for r in done[:1]] if facts)
    references = list(reference_values(done[0])) if done else []
    kinds = list(done[0]["intervals"]) if done else []
    rows = []
    for r in records:
        if r["status"] == "done":
            rows.append([
                str(r["seed"]), percent(r["value"]), *(_half(r, kind) for kind in kinds),
                *(percent(reference_values(r)[name]) for name in references),
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
        print_text(line)


def print_run(record: Record) -> None:
    """Print one record: its identity, measured values, costs, environment and every setting."""
    head = [[name, str(record[name])] for name in _IDENTITY if name in record]
    if record["status"] == "done":
        scores = {record["metric"]: record, **record["references"]}
        kinds = list(dict.fromkeys(kind for score in scores.values() for kind in score["intervals"]))
        rows = [
            [name, percent(score["value"]), *(_half(score, kind) for kind in kinds)] for name, score in scores.items()
        ]
        title = visible(f"{record['protocol']}  {record['dataset']}  {record['method']}")
        print_table(title, ["what", "value"], head)
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


def print_leaderboard(results: Sequence[MethodResult]) -> None:
    """Print a table for each set of conditions: methods by rank, then what they are read against."""
    from benchmark.report.aggregation import group_by_conditions
    from benchmark.report.leaderboard import group_rows
    from benchmark.report.references import setting_facts

    for number, group in enumerate(group_by_conditions(results)):
        rows = group_rows(group)
        metric = next((row["metric"] for row in rows if row["metric"]), "")
        columns = ["rank", "method", f"{metric} %", "± seeds", "± episodes", "seeds", "status"]
        labels = {result.preset + result.method: result.label for result in group.results}
        cells = [
            [
                _whole(row["rank"]),
                labels.get(row["preset"] + row["method"], row["method"]),
                *map(_share, (row["mean"], row["ci95"], row["episode_ci95"])),
                _whole(row["n_seeds"]),
                "" if row["status"] in ("done", "reference") else row["status"],
            ]
            for row in rows
        ]
        if number:
            print_text("")
        title = visible("  ".join(_conditions(group.conditions).values()))
        facts = ", ".join(setting_facts(group.results))
        print_table(title + f"\n{facts}" * bool(facts), columns, cells)


def print_comparisons(
    comparisons: Sequence[Comparison], results: Sequence[MethodResult] = (), *, details: bool = False
) -> None:
    """Print a row for each pair of methods under each set of conditions, notes, and a sentence for each pair.

    What all rows share stands once, above the table.

    Args:
        comparisons: The comparisons.
        results: The compared results; their references and facts are printed below the table.
        details: Print also the effect size, both tests and the intervals within the trained networks.
    """
    from benchmark.report.compare import sentences

    identities = [{**_conditions(c.conditions), "A": c.a, "B": c.b} for c in comparisons]
    names = list(dict.fromkeys(name for identity in identities for name in identity))
    values = {name: {i[name] for i in identities if name in i} for name in names}
    shared = {name: next(iter(found)) for name, found in values.items() if len(found) == 1}
    varying = [name for name in names if name not in shared]
    rows = []
    for c, identity in zip(comparisons, identities, strict=True):
        row = [identity.get(name, "all") for name in varying]
        row += [*map(percent, c.means), percent(c.paired.interval.mean, signed=True)]
        row += [_plus_minus(c.paired.interval.half_width), str(len(c.differences)), _number(c.adjusted_p)]
        if details:
            row += [_plus_minus(getattr(c.within.get(kind), "half_width", None)) for kind in MEANINGS]
            row += [_number(x) for x in (c.paired.effect, c.p)]
        rows.append(row)
    columns = [*varying, "A %", "B %", "A - B", "± seeds", "seeds", "p (Holm)"]
    columns += [*(f"± {kind}" for kind in MEANINGS), "d", "p"] if details else []
    pair = [f"{name} = {shared.pop(name)}" for name in ("A", "B") if name in shared]
    title = [visible("  ".join(shared.values())), visible(", ".join(pair))]
    print_table("\n".join(filter(None, title)), columns, rows)
    for line in _comparison_notes(comparisons, results, details):
        print_text(line)
    for line in sentences(comparisons):
        print_text(line)


def _comparison_notes(
    comparisons: Sequence[Comparison], results: Sequence[MethodResult], details: bool
) -> Iterator[str]:
    from benchmark.report.aggregation import group_by_conditions
    from benchmark.report.compare import heading_of
    from benchmark.report.references import reference_intervals, setting_facts

    yield "± seeds: 95 % Student t, other trainings" + ("; the others: these trained networks only" if details else "")
    single = sum(c.conditions is not None for c in comparisons)
    yield f"p (Holm): adjusted over the {single} comparisons above" if single > 1 else "p (Holm): of one comparison"
    if any(c.conditions is None for c in comparisons):
        yield "all: the mean over these conditions within each seed; the seed is the observation"
    compared = list(dict.fromkeys(c.conditions for c in comparisons if c.conditions is not None))
    heading = heading_of(comparisons)
    for group in group_by_conditions(results):
        if group.conditions in compared:
            intervals = reference_intervals(group.results)
            facts = [*(f"{name} {percent(i.mean)} %" for name, i in intervals.items()), *setting_facts(group.results)]
            if facts:
                yield f"{heading.line(group.conditions)}: {', '.join(facts)}"


def _conditions(conditions: Conditions | None) -> dict[str, str]:
    """Return the conditions by name, as tables show them; none for all conditions together."""
    if conditions is None:
        return {}
    shown = {field.name: str(getattr(conditions, field.name)) for field in dataclasses.fields(conditions)}
    del shown["backbone"], shown["teacher"]
    if shown["provenance"] == "measured":
        del shown["provenance"]
    return {**shown, "networks": conditions.networks}


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
    return _plus_minus(half, sign)


def _plus_minus(half: float | None, sign: str = "±") -> str:
    return "" if half is None else f"{sign} {percent(half)}"


def _share(value: float) -> str:
    return "" if value != value else percent(value)


def _whole(value: Any) -> str:
    return str(value) if isinstance(value, int) else ""


def _number(value: float | None) -> str:
    return "" if value is None else "< .001" if 0 < value < 0.001 else f"{value:.3f}"
