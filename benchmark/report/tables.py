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

from benchmark.records.schema import Record
from benchmark.report.aggregation import ComparisonGroup, format_seeds, group_by_conditions, group_by_method
from benchmark.statistics import average_ranks, holm, paired_test
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
        parts.append("\n".join([*lines, "", _note(table), *_missing_lines(table, "- {}: {}", markdown)]))
    return "\n\n".join(parts) + "\n"


def to_latex(tables: Iterable[Table]) -> str:
    """Format tables for LaTeX with the packages booktabs and amsmath. Marks are as in Markdown."""
    parts = []
    for table in tables:
        header = ["method", *table.protocols, *(["rank"] if _ranked(table) else [])]
        lines = [
            r"\begin{table}", r"\centering", rf"\caption{{{latex(table.title)}. {latex(_note(table))}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\toprule",
            " & ".join(latex(name) for name in header) + r" \\", r"\midrule",
        ]  # fmt: skip
        for method in table.methods:
            cells = [
                _cell(table.entries.get((method, p)), r"\textbf{{{}}}", r"{}\rlap{{\textsuperscript{{\textdagger}}}}",
                      r"{} {{\scriptsize$\pm$ {}}}")
                for p in table.protocols
            ]  # fmt: skip
            row = [latex(method), *cells, *([_rank(table, method)] if _ranked(table) else [])]
            lines.append(" & ".join(row) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}"]
        lines += [rf"\par\smallskip\footnotesize {line}" for line in _missing_lines(table, "{}: {}.", latex)]
        parts.append("\n".join([*lines, r"\end{table}"]))
    return "\n\n".join(parts) + "\n"


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
    title = f"{family} on {dataset}, {preset}, {backbone} from {teacher}"
    shared = {group.conditions.protocol: group.shared_seeds for group in groups if group.note}
    return Table(title, protocols, tuple(order), entries, ranks, missing, shared)


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


def _cell(entry: Entry | None, best: str, tied: str, interval: str) -> str:
    if entry is None:
        return "-"
    mean = f"{100 * entry.mean:.2f}"
    marked = best.format(mean) if entry.best else tied.format(mean) if entry.tied and entry.n > 1 else mean
    return marked if entry.half_width is None else interval.format(marked, f"{100 * entry.half_width:.2f}")


def _note(table: Table) -> str:
    counts = sorted({entry.n for entry in table.entries.values()})
    if not counts:
        return "No run has finished."
    seeds = f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
    shared = "; ".join(f"{protocol} {format_seeds(each) or 'none'}" for protocol, each in table.shared_seeds.items())
    over = f" Best, † and ranks are over the seeds that all methods have finished: {shared}." if shared else ""
    if counts[-1] == 1:
        return f"Accuracy in percent, one seed: no interval; best in bold.{over}"
    return (
        f"Accuracy in percent, mean ± 95 % Student t interval over {seeds} seeds; best in bold; "
        f"† not significantly different from the best (paired t-test over seeds, Holm).{over}"
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
