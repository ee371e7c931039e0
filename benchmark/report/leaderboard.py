"""The leaderboard, computed from records alone."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

import pandas as pd

from benchmark.records.schema import Record
from benchmark.report.aggregation import ComparisonGroup, MethodResult, group_by_conditions, group_by_method
from benchmark.report.references import reference_intervals
from benchmark.statistics import Interval

COLUMNS = (
    "protocol", "dataset", "preset", "teacher", "backbone", "method", "metric", "n_seeds", "mean", "ci95",
    "episode_ci95", "best", "rank", "status", "provenance", "keys",
)  # fmt: skip


def leaderboard(records: Iterable[Record]) -> pd.DataFrame:
    """Build the leaderboard: one row per protocol, data set, preset, teacher, backbone and method.

    Methods are ranked within one protocol, data set, preset, teacher and backbone, by their mean over the seeds that
    every method of this group has finished. A method that lacks a seed of another has the status ``incomplete``, one
    that has finished no run ``failed``. If a seed was measured more than once, the latest finished record counts.

    Rows of status ``reference`` follow the methods of each group: chance, the teacher and nearest means, where the
    records hold them. They have no rank.

    Returns:
        The columns are ``COLUMNS``; values are in [0, 1]. ``mean`` and ``ci95`` are the mean over all seeds of the
        method and the half-width of its Student t interval, which is empty for one seed. ``episode_ci95`` is the
        half-width on this mean that is due to the draw of episodes alone. ``keys`` are the keys of the records, 12
        digits each, in the order of the seeds.
    """
    rows = [row for group in group_by_conditions(group_by_method(records)) for row in group_rows(group)]
    conditions = COLUMNS[:5]
    rows.sort(key=lambda row: (*(row[name] for name in conditions), row["status"] == "reference", row["method"]))
    frame = pd.DataFrame(rows, columns=[*COLUMNS])
    return _typed(frame)


def reported() -> pd.DataFrame:
    """Return published numbers as rows of the leaderboard, without rank.

    The numbers come from the file ``reported.csv`` of this package. Their conditions are those of the publication, so
    their preset is ``as published``.

    Returns:
        The columns are ``COLUMNS``, ``source`` (the publication) and ``recipe`` (the recipe that repeats it).
    """
    table = pd.read_csv(io.StringIO(files("benchmark.report").joinpath("reported.csv").read_text(encoding="utf-8")))
    table["mean"] = table.pop("accuracy_percent") / 100
    fixed = {"preset": "as published", "metric": "accuracy", "status": "reported", "provenance": "reported-in-paper"}
    return _typed(table.assign(**fixed).reindex(columns=[*COLUMNS, "source", "recipe"]))


def with_reported(frame: pd.DataFrame) -> pd.DataFrame:
    """Append the rows of ``reported()`` to a leaderboard."""
    return pd.concat([frame, reported()[[*COLUMNS]]], ignore_index=True)


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    nullable = {"n_seeds": "Int64", "rank": "Int64", "best": "boolean"}
    return frame.astype({**nullable, **dict.fromkeys(("mean", "ci95", "episode_ci95"), "float64")})


def group_rows(group: ComparisonGroup) -> list[dict[str, Any]]:
    """Return the rows of one set of conditions: methods by rank, those without rank by name, then references."""
    means = group.shared_means
    rows = [_row(group, result, means) for result in group.results]
    rows.sort(key=lambda row: (row["rank"] is pd.NA, 0 if row["rank"] is pd.NA else row["rank"], row["method"]))
    metric = next((row["metric"] for row in rows if row["metric"]), "")
    references = reference_intervals(group.results).items()
    return rows + [_reference(group, metric, name, interval) for name, interval in references]


def _reference(group: ComparisonGroup, metric: str, name: str, interval: Interval) -> dict[str, Any]:
    conditions = group.conditions
    half = interval.half_width
    return {
        "protocol": conditions.protocol, "dataset": conditions.dataset, "preset": conditions.preset,
        "teacher": conditions.teacher, "backbone": conditions.backbone, "method": name, "metric": metric,
        "n_seeds": interval.n, "mean": interval.mean, "ci95": math.nan if half is None else half,
        "episode_ci95": math.nan, "best": pd.NA, "rank": pd.NA, "status": "reference",
        "provenance": conditions.provenance, "keys": "",
    }  # fmt: skip


def _row(group: ComparisonGroup, result: MethodResult, means: Mapping[str, float]) -> dict[str, Any]:
    conditions, done = result.conditions, result.done
    row: dict[str, Any] = {
        "protocol": conditions.protocol, "dataset": conditions.dataset, "preset": result.preset,
        "teacher": conditions.teacher, "backbone": conditions.backbone, "method": result.method,
        "metric": result.metric, "n_seeds": len(done), "mean": math.nan, "ci95": math.nan, "episode_ci95": math.nan,
        "best": pd.NA, "rank": pd.NA, "status": "failed", "provenance": conditions.provenance,
        "keys": " ".join(run["key"][:12] for run in done.values()),
    }  # fmt: skip
    if not done:
        return row
    interval = result.interval()
    row |= {"mean": interval.mean, "status": "incomplete" if group.missing(result) else "done"}
    if interval.half_width is not None:
        row["ci95"] = interval.half_width
    halves = [run["intervals"].get("episode", {}).get("half_width") for run in done.values()]
    if all(half is not None for half in halves):
        row["episode_ci95"] = math.sqrt(sum(half**2 for half in halves)) / len(halves)
    if result.label in means:
        row["rank"] = 1 + sum(mean > means[result.label] for mean in means.values())
        row["best"] = row["rank"] == 1
    return row
