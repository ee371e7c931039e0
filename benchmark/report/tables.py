"""The leaderboard as tables for papers and pages: methods by protocols, the best in bold, missing runs in notes."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmark.records.run_label import networks
from benchmark.records.schema import Record
from benchmark.report.aggregation import ComparisonGroup, format_seeds, group_by_conditions, group_by_method
from benchmark.report.references import reference_intervals, setting_facts
from benchmark.statistics import Interval, average_ranks, holm, paired_test
from benchmark.system.escaping import latex, markdown

ALPHA = 0.05


@dataclass(frozen=True)
class Entry:
    """One method under one protocol."""

    mean: float
    """Mean over seeds in [0, 1]."""
    half_width: float | None
    """Half-width of the Student t interval over seeds; None for one seed."""
    n: int
    """Number of finished seeds."""
    best: bool
    """Whether the method has the largest mean over the seeds that all methods share."""
    tied: bool
    """Whether the method is the best or does not differ significantly from it."""


@dataclass(frozen=True)
class Table:
    """Methods by protocols of one family, all with the same data set, preset, teacher and backbone."""

    title: str
    protocols: tuple[str, ...]
    """The columns, in natural order."""
    methods: tuple[str, ...]
    """The rows: ranked methods by average rank, then the others by name."""
    entries: dict[tuple[str, str], Entry]
    """The cells by method and protocol."""
    ranks: dict[str, float]
    """Average rank over protocols of each method that has a rank under every protocol."""
    missing: dict[str, dict[str, list[int]]]
    """Missing seeds of each method that lacks some, by protocol, as ``{"distill-same": [3, 4]}``.

    The list is empty if the method has no record under the protocol, for example because it does not apply to it.
    """
    shared_seeds: dict[str, list[int]]
    """By protocol, the seeds that ranks and marks are over, where not all methods have finished the same seeds."""
    references: dict[str, dict[str, Interval]]
    """What methods are read against: chance, the teacher, nearest means, by name and protocol."""
    facts: tuple[str, ...]
    """What all protocols of the table share, as ``2 images per class``."""


def make_tables(records: Iterable[Record]) -> list[Table]:
    """Make one table per family of protocols, data set, preset, teacher and backbone, from measured records.

    The family of a protocol is its name up to the first hyphen.
    """
    groups: dict[tuple[str, ...], list[ComparisonGroup]] = defaultdict(list)
    for group in group_by_conditions(group_by_method(records)):
        shared = group.conditions
        if shared.provenance == "measured":
            family = shared.protocol.partition("-")[0]
            groups[family, shared.dataset, shared.preset, shared.teacher, shared.backbone].append(group)
    return [_table(key, members) for key, members in sorted(groups.items())]


def to_markdown(tables: Iterable[Table]) -> str:
    """Format tables as Markdown: accuracy in percent, ± the Student t interval over seeds."""
    parts = []
    for table in tables:
        header = ["method", *table.protocols, *(["rank"] if _ranked(table) else [])]
        lines = [
            f"### {markdown(table.title)}",
            "",
            _markdown_row(map(markdown, header)),
            "|---|" + "--:|" * (len(header) - 1),
        ]
        for method in table.methods:
            cells = [_cell(table.entries.get((method, p)), "**{}**", "{} †", "{} ± {}") for p in table.protocols]
            lines.append(_markdown_row([markdown(method), *cells, *([_rank(table, method)] if _ranked(table) else [])]))
        for name, intervals in table.references.items():
            cells = [_reference_cell(intervals.get(p), "{} ± {}") for p in table.protocols]
            lines.append(_markdown_row([markdown(name), *cells, *([""] if _ranked(table) else [])]))
        parts.append("\n".join([*lines, "", _note(table), *_missing_lines(table, "- {}: {}", markdown)]))
    return "\n\n".join(parts) + "\n"


COLUMN_POINTS = {1: 229, 2: 469}
"""Width in points of one and of both columns of a two-column article."""


def to_latex(tables: Iterable[Table], columns: int = 1) -> str:
    """Format tables for LaTeX with the package booktabs, to fit a two-column paper. Marks are as in Markdown.

    Protocols that do not fit beside one another stand in several tables.

    Args:
        tables: The tables.
        columns: 1 for tables as wide as one column of the paper, 2 for tables across both.
    """
    return "% needs \\usepackage{booktabs}\n" + "\n\n".join(_latex(table, columns) for table in tables) + "\n"


def _latex(table: Table, columns: int) -> str:
    environment = "table" if columns == 1 else "table*"
    marked = any(entry.tied and not entry.best and entry.n > 1 for entry in table.entries.values())
    dagger = r"\textsuperscript{\textdagger}"
    tied, untied = "{}" + dagger.replace("{", "{{").replace("}", "}}"), rf"\phantom{{{dagger}}}" if marked else ""
    interval = r"{}$_{{\pm {}}}$"
    body: list[list[str]] = []
    for method in table.methods:
        entries = [table.entries.get((method, protocol)) for protocol in table.protocols]
        behind = ["" if entry and entry.tied and not entry.best and entry.n > 1 else untied for entry in entries]
        cells = [_cell(e, r"\textbf{{{}}}", tied, interval, b) for e, b in zip(entries, behind, strict=True)]
        body.append([method, *cells, *([_rank(table, method)] if _ranked(table) else [])])
    for name, intervals in table.references.items():
        cells = [_reference_cell(intervals.get(protocol), interval, untied) for protocol in table.protocols]
        body.append([name, *cells, *([""] if _ranked(table) else [])])
    family = table.protocols[0].partition("-")[0] + "-"
    header = [*(protocol.removeprefix(family) for protocol in table.protocols), *(["rank"] if _ranked(table) else [])]
    label_points = min(_LABEL_POINTS, max(_points(row[0]) for row in body))
    room, cell = COLUMN_POINTS[columns] - label_points - _GAP_POINTS, _cell_points(table, marked)
    caption = f"{_breakable(table.title)}. {_breakable(_note(table))}"
    if _ranked(table) and len(_blocks(header, room, cell)) > 1:
        header.pop()  # the order of the rows tells it
        caption += " Methods by average rank."
    captions = [caption]
    parts = []
    for first, last in _blocks(header, room, cell):
        lines = [
            rf"\begin{{{environment}}}", r"\sloppy\centering\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{captions[-1]}}}", rf"\begin{{tabular}}{{l{'r' * (last - first)}}}", r"\toprule",
            " & ".join(["method", *(_latex_heading(name) for name in header[first:last])]) + r" \\", r"\midrule",
        ]  # fmt: skip
        for number, (label, *cells) in enumerate(body):
            lines += [r"\midrule"] * (number == len(table.methods))
            lines.append(" & ".join([_latex_label(label), *cells[first:last]]) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}"]
        if last == len(header):
            lines += [rf"\par\smallskip {line}" for line in _missing_lines(table, "{}: {}.", _breakable)]
        parts.append("\n".join([*lines, rf"\end{{{environment}}}"]))
        captions.append(f"{_breakable(table.title)}, continued.")
    return "\n\n".join(parts)


_LABEL_POINTS = 60
"""The widest column of methods, in points."""
_GAP_POINTS = 6


def _cell_points(table: Table, marked: bool) -> float:
    """Estimate the width in points of a cell with a bold mean, a mark and an interval."""
    intervals = [interval for by_protocol in table.references.values() for interval in by_protocol.values()]
    values: list[Entry | Interval] = [*table.entries.values(), *intervals]
    mean = max((len(f"{100 * value.mean:.2f}") for value in values), default=1)
    halves = [value.half_width for value in values if value.half_width is not None]
    half = max((len(f"{100 * width:.2f}") for width in halves), default=0)
    return 4.6 * mean + 3.5 * marked + bool(half) * 6.2 + 3.5 * half


def _blocks(header: Sequence[str], room: float, cell: float) -> list[tuple[int, int]]:
    """Return the first column and the one after the last of each part that fits into ``room`` points."""
    widths = [20 if name == "rank" else max(cell, *map(_points, _heading_lines(name))) for name in header]

    def fill(most: int) -> list[tuple[int, int]]:
        blocks, first, used = [], 0, 0.0
        for number, width in enumerate(widths):
            if number > first and (used + width + _GAP_POINTS > room or number - first == most):
                blocks.append((first, number))
                first, used = number, 0.0
            used += width + _GAP_POINTS
        return [*blocks, (first, len(widths))]

    return fill(-(-len(widths) // len(fill(len(widths)))))  # equally many columns in each part


def _points(text: str) -> float:
    """Estimate the width of a text in points, in the size of a footnote (8 points) and rather too wide."""
    return sum(
        7 if sign in "mwMW@%" else 2.8 if sign in "iljt.,:;'()[]" else 6.2 if sign.isupper() else 4.6 for sign in text
    )


def _heading_lines(name: str) -> list[str]:
    """Break a protocol's name behind its hyphens if it is wider than a cell."""
    return re.findall(r"[^-]+-?", name) if _points(name) > 44 else [name]


def _latex_heading(name: str) -> str:
    lines = [latex(line) for line in _heading_lines(name)]
    return lines[0] if len(lines) == 1 else r"\shortstack[r]{" + r" \\ ".join(lines) + "}"


def _latex_label(label: str) -> str:
    if _points(label) <= _LABEL_POINTS:
        return latex(label)
    return rf"\parbox[t]{{{_LABEL_POINTS}pt}}{{\raggedright {_breakable(label)}}}"


def _breakable(text: str) -> str:
    """Escape a text and let its lines break behind the signs that join settings."""
    parts = re.split(r"(?<=[+=_/@])(?=\S)|(?<=[a-z]\.)(?=[a-z])", text)
    return r"\allowbreak{}".join(latex(part) for part in parts)


def to_json(frame: pd.DataFrame, tables: Iterable[Table]) -> str:
    """Format the rows of the leaderboard, and the average ranks and missing seeds of each table, as JSON."""
    rows: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", double_precision=15))
    shown = [
        {"title": t.title, "average_ranks": t.ranks, "missing": t.missing, "ranked_over_seeds": t.shared_seeds}
        for t in tables
    ]
    return json.dumps({"rows": rows, "tables": shown}, indent=1, allow_nan=False) + "\n"


def _table(key: Sequence[str], groups: Sequence[ComparisonGroup]) -> Table:
    family, dataset, preset, teacher, backbone = key
    groups = sorted(groups, key=lambda group: _natural_order(group.conditions.protocol))
    protocols = tuple(group.conditions.protocol for group in groups)
    results = {(result.label, group.conditions.protocol): result for group in groups for result in group.results}
    labels = list(dict.fromkeys(label for label, _ in results))
    missing: dict[str, dict[str, list[int]]] = {}
    for label in labels:
        missing_seeds = {}
        for group in groups:
            result = results.get((label, group.conditions.protocol))
            if result is None or group.missing(result):
                missing_seeds[group.conditions.protocol] = [] if result is None else group.missing(result)
        if missing_seeds:
            missing[label] = missing_seeds
    entries = {}
    for group in groups:
        tied = _tied(group)
        for result in group.results:
            if result.done:
                interval = result.interval()
                entries[result.label, group.conditions.protocol] = Entry(
                    interval.mean,
                    interval.half_width,
                    interval.n,
                    tied.get(result.label) == "best",
                    result.label in tied,
                )
    means = [group.shared_means for group in groups]
    ranked = [label for label in labels if all(label in of_group for of_group in means)]
    ranks = {}
    if ranked:
        rows = np.array([[of_group[label] for label in ranked] for of_group in means])
        ranks = dict(zip(ranked, average_ranks(rows).tolist(), strict=True))
    order = sorted(ranked, key=lambda label: (ranks[label], label)) + sorted({*labels} - {*ranked})
    title = f"{family} on {dataset}, {preset}, {networks(backbone, teacher)}"
    shared = {group.conditions.protocol: group.shared_seeds for group in groups if group.note}
    references: dict[str, dict[str, Interval]] = {}
    for group in groups:
        for name, interval in reference_intervals(group.results).items():
            references.setdefault(name, {})[group.conditions.protocol] = interval
    facts = [setting_facts(group.results) for group in groups]
    common = tuple(fact for fact in facts[0] if all(fact in others for others in facts))
    return Table(title, protocols, tuple(order), entries, ranks, missing, shared, references, common)


def _tied(group: ComparisonGroup) -> dict[str, str]:
    """Return the best methods and those that do not differ significantly from them, over the seeds that all share.

    Each method is tested against the best by a paired t-test over seeds, with Holm's correction.

    Returns:
        ``best`` or ``tied`` by label; methods that differ are left out.
    """
    means, seeds = group.shared_means, group.shared_seeds
    if not means:
        return {}
    values = {
        result.label: np.array([result.done[seed]["value"] for seed in seeds])
        for result in group.results
        if result.label in means
    }
    best = max(means, key=lambda label: means[label])
    others = [label for label in means if label != best]
    p = [paired_test(values[best] - values[label]).t_p for label in others]
    adjusted = iter(holm([value for value in p if value is not None]))
    marks = {best: "best"}
    for label, value in zip(others, p, strict=True):
        if value is None or next(adjusted) >= ALPHA:
            marks[label] = "best" if means[label] == means[best] else "tied"
    return marks


def _cell(entry: Entry | None, best: str, tied: str, interval: str, behind: str = "") -> str:
    if entry is None:
        return "-"
    mean = f"{100 * entry.mean:.2f}"
    marked = best.format(mean) if entry.best else tied.format(mean) if entry.tied and entry.n > 1 else mean
    marked += behind
    return marked if entry.half_width is None else interval.format(marked, f"{100 * entry.half_width:.2f}")


def _reference_cell(value: Interval | None, interval: str, behind: str = "") -> str:
    if value is None:
        return "-"
    mean = f"{100 * value.mean:.2f}{behind}"
    return mean if value.half_width is None else interval.format(mean, f"{100 * value.half_width:.2f}")


def _note(table: Table) -> str:
    facts = f" {', '.join(table.facts)}." if table.facts else ""
    counts = sorted({entry.n for entry in table.entries.values()})
    if not counts:
        return "No run has finished."
    seeds = f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
    shared = "; ".join(f"{protocol} {format_seeds(each) or 'none'}" for protocol, each in table.shared_seeds.items())
    over = f" Best, † and ranks are over the seeds that all methods have finished: {shared}." if shared else ""
    if counts[-1] == 1:
        return f"Accuracy in percent, one seed: no interval; best in bold.{over}{facts}"
    return (
        f"Accuracy in percent, mean ± 95 % Student t interval over {seeds} seeds; best in bold; "
        f"† not significantly different from the best (paired t-test over seeds, Holm).{over}{facts}"
    )


def _missing_lines(table: Table, form: str, escape: Callable[[str], str]) -> list[str]:
    lines = []
    for method, missing_seeds in table.missing.items():
        reasons = [
            f"no seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))} of {protocol}"
            for protocol, seeds in missing_seeds.items()
            if seeds
        ]
        if not_run := [protocol for protocol, seeds in missing_seeds.items() if not seeds]:
            reasons.append(f"no run of {', '.join(not_run)}")
        lines.append(form.format(escape(method), escape("; ".join(reasons))))
    return ["", "Missing:", *lines] if lines and form.startswith("-") else lines


def _ranked(table: Table) -> bool:
    return len(table.protocols) > 1 and len(table.ranks) > 1


def _rank(table: Table, method: str) -> str:
    return f"{table.ranks[method]:.1f}" if method in table.ranks else "-"


def _markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _natural_order(name: str) -> list[tuple[int, str]]:
    """Return a sorting key that puts 5 before 20."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]
