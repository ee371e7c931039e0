"""The HTML page: leaderboard, figures, problems, and the data of every run for the page's script."""

from __future__ import annotations

import base64
import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, NamedTuple

import jinja2
import pandas as pd

from benchmark.experiment.labels import label_of
from benchmark.records.run_label import parse_label
from benchmark.records.schema import Record
from benchmark.report.aggregation import (
    ComparisonGroup,
    Conditions,
    format_seeds,
    group_by_conditions,
    group_by_method,
)
from benchmark.report.leaderboard import leaderboard, reported
from benchmark.report.page.runs import RunPages
from benchmark.report.references import reference_intervals, setting_facts
from benchmark.system.escaping import visible

INTERVALS = {
    "seed": (
        "Student's t over seeds, as the leaderboard shows it: how far the mean would move if the method were trained "
        "again with other seeds. Methods are compared by this one."
    ),
    "episode": (
        "1.96 standard errors over episodes, as few-shot papers print it: the draw of episodes from these very images. "
        "It says nothing about other classes or another run."
    ),
    "class": (
        "Delete-one-class jackknife: how far the number of this one run holds for other novel classes of the same kind."
    ),
    "image": (
        "Student's t over images, or over episodes that share none: how far the number of this one run holds for other "
        "images of the same classes. Near-duplicates among the images make it too narrow."
    ),
}
"""Explanation of each kind of interval. All are 95 % intervals."""


class Illustration(NamedTuple):
    """A figure for the page."""

    title: str
    caption: str
    svg: str
    """A complete SVG document, embedded as an image."""


class RunLink(NamedTuple):
    """A link from a row to the page of one run."""

    seed: int
    key: str
    failed: bool


@dataclass(frozen=True)
class Row:
    """One method of a group. Numbers are those of the leaderboard; missing numbers are NaN."""

    label: str
    method: str
    mean: float
    ci95: float
    episode_ci95: float
    n_seeds: int
    rank: int | None
    """None if the method is not ranked."""
    best: bool
    status: str
    missing: list[int]
    """Seeds of the group that the method has not finished."""
    runs: list[RunLink]


@dataclass(frozen=True)
class PageGroup:
    """A comparison group as the page shows it."""

    conditions: Conditions
    preset: str
    """The preset's name alone."""
    changed: list[str]
    """The settings that differ from the preset."""
    metric: str
    source: str
    """The publication; empty for measured numbers."""
    rows: list[Row]
    """Methods, then what they are read against."""
    note: str = ""
    """The seeds that the ranks are over, if methods have finished different ones."""
    facts: list[str] = field(default_factory=list)
    """What the runs of the group share, as ``2 images per class``."""


def make_page(records: Iterable[Record], figures: Sequence[Illustration], problems: Sequence[str]) -> str:
    """Make one HTML document with leaderboard, figures, problems and a page per run.

    The document loads nothing: its content security policy forbids network access and foreign scripts. Published
    numbers for the protocols and data sets of the records have a section of their own. The order of the records does
    not change the text.

    Args:
        records: Records of all runs.
        figures: Figures to embed.
        problems: One line for each record that could not be read.
    """
    ordered = sorted(records, key=lambda r: (r["status"] == "done", r.get("started", ""), r["key"]))
    by_key = {str(record["key"]): {**record, "preset": label_of(record)} for record in ordered}
    comparison_groups = group_by_conditions(group_by_method(by_key.values()))
    numbers = {tuple(row[name] for name in _IDENTITY): row for row in leaderboard(by_key.values()).to_dict("records")}
    groups = [_group(group, numbers) for group in comparison_groups]
    listed = {run.key for group in groups for row in group.rows for run in row.runs}
    measured = [group for group in groups if group.conditions.provenance == "measured"]
    published = [group for group in groups if group.conditions.provenance != "measured"] + _published(measured)
    pages = RunPages()
    runs = {key: pages.add(record) for key, record in by_key.items()}
    style, script = (_asset(f"page.{kind}") + _asset(f"run.{kind}") for kind in ("css", "js"))
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters |= {"percent": _percent, "finite": math.isfinite, "of": _count, "ranges": format_seeds}
    text = environment.from_string(_asset("page.html")).render(
        style=style,
        script=script,
        policy=f"default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src {_hash(style)}; script-src {_hash(script)}",
        measured=measured,
        published=published,
        counted=_names(measured),
        choices=_names([*measured, *published]),
        figures=[(title, caption, _data_uri(svg)) for title, caption, svg in figures],
        problems=problems,
        failed=[record for record in by_key.values() if record["status"] != "done"],
        superseded=[record for key, record in by_key.items() if key not in listed],
        intervals=INTERVALS,
        runs=runs,
        shared=pages.shared,
    )
    # a record may hold a lone surrogate, which UTF-8 cannot encode
    return text.encode("utf-8", "backslashreplace").decode()


_IDENTITY = ("protocol", "dataset", "preset", "teacher", "backbone", "provenance", "method")


def _group(group: ComparisonGroup, numbers: Mapping[tuple[Any, ...], Mapping[Any, Any]]) -> PageGroup:
    shared = group.conditions
    rows = []
    for result in group.results:
        identity = (shared.protocol, shared.dataset, result.preset, shared.teacher, shared.backbone, shared.provenance)
        runs = [RunLink(seed, str(run["key"]), run["status"] != "done") for seed, run in sorted(result.runs.items())]
        rows.append(_row(numbers[*identity, result.method], result.label, group.missing(result), runs))
    metrics = sorted({result.metric for result in group.results} - {""})
    references = [
        Row(name, name, x.mean, math.nan if x.half_width is None else x.half_width, math.nan, x.n, None, False,
            "reference", [], [])
        for name, x in reference_intervals(group.results).items()
    ]  # fmt: skip
    rows = _in_order(rows) + references
    facts = setting_facts(group.results)
    return PageGroup(shared, *parse_label(shared.preset), " or ".join(metrics), "", rows, group.note, facts)


def _published(measured: Iterable[PageGroup]) -> list[PageGroup]:
    """Return the published numbers for the measured protocols and data sets, grouped by conditions and publication."""
    measured_pairs = {(group.conditions.protocol, group.conditions.dataset) for group in measured}
    rows_by_key: dict[tuple[Conditions, str, str], list[Row]] = defaultdict(list)
    for numbers in reported().to_dict("records"):
        if (numbers["protocol"], numbers["dataset"]) in measured_pairs:
            conditions = Conditions(*(numbers[name] for name in _IDENTITY[:-1]))
            key = conditions, numbers["metric"], numbers["source"]
            rows_by_key[key].append(_row(numbers, numbers["method"], [], []))
    return [
        PageGroup(conditions, conditions.preset, [], metric, source, _in_order(rows))
        for (conditions, metric, source), rows in sorted(rows_by_key.items())
    ]


def _row(numbers: Mapping[Any, Any], label: str, missing: list[int], runs: list[RunLink]) -> Row:
    ranked = not pd.isna(numbers["rank"]) and numbers["provenance"] == "measured"
    return Row(
        label=label,
        method=numbers["method"],
        mean=numbers["mean"],
        ci95=numbers["ci95"],
        episode_ci95=numbers["episode_ci95"],
        n_seeds=len(runs) - sum(run.failed for run in runs),
        rank=numbers["rank"] if ranked else None,
        best=ranked and bool(numbers["best"]),
        status=numbers["status"],
        missing=missing,
        runs=runs,
    )


def _in_order(rows: Iterable[Row]) -> list[Row]:
    """Sort rows by rank, then by mean; rows without a mean are last."""
    return sorted(
        rows, key=lambda row: (row.rank or math.inf, -row.mean if math.isfinite(row.mean) else math.inf, row.label)
    )


def _names(groups: Iterable[PageGroup]) -> dict[str, list[str]]:
    names: dict[str, set[str]] = {"protocol": set(), "dataset": set(), "method": set()}
    for group in groups:
        names["protocol"].add(group.conditions.protocol)
        names["dataset"].add(group.conditions.dataset)
        names["method"].update(row.method for row in group.rows if row.status != "reference")
    return {kind: sorted(values) for kind, values in names.items()}


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _count(things: Sized, noun: str) -> str:
    return f"{len(things):,} {noun}{'' if len(things) == 1 else 's'}"


def _data_uri(svg: str) -> str:
    """Encode an image as a data URI: ids of several images cannot clash, and no script in them can run."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _asset(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")
