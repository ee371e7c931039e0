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

COLUMNS = (
    "protocol", "dataset", "preset", "teacher", "backbone", "method", "metric", "n_seeds", "mean", "ci95",
    "episode_ci95", "best", "rank", "status", "provenance",
)  # fmt: skip


def leaderboard(records: Iterable[Record]) -> pd.DataFrame:
    """Build the leaderboard: one row per protocol, data set, preset, teacher, backbone and method.

    Methods are ranked within one protocol, data set, preset, teacher and backbone, by their mean over the seeds that
    every method of this group has finished. A method that lacks a seed of another has the status ``incomplete``, one
    that has finished no run ``failed``. If a seed was measured more than once, the latest finished record counts.

    Returns:
        The columns are ``COLUMNS``; values are in [0, 1]. ``mean`` and ``ci95`` are the mean over all seeds of the
        method and the half-width of its Student t interval, which is empty for one seed. ``episode_ci95`` is the
        half-width on this mean that is due to the draw of episodes alone.
    """
    rows = [row for group in group_by_conditions(group_by_method(records)) for row in _rows(group)]
    rows.sort(key=lambda row: tuple(row[name] for name in (*COLUMNS[:6], "provenance")))
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


def _rows(group: ComparisonGroup) -> list[dict[str, Any]]:
    means = group.shared_means
    return [_row(group, result, means) for result in group.results]


def _row(group: ComparisonGroup, result: MethodResult, means: Mapping[str, float]) -> dict[str, Any]:
    conditions, done = result.conditions, result.done
    row: dict[str, Any] = {
        "protocol": conditions.protocol, "dataset": conditions.dataset, "preset": result.preset,
        "teacher": conditions.teacher, "backbone": conditions.backbone, "method": result.method,
        "metric": result.metric, "n_seeds": len(done), "mean": math.nan, "ci95": math.nan, "episode_ci95": math.nan,
        "best": pd.NA, "rank": pd.NA, "status": "failed", "provenance": conditions.provenance,
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
