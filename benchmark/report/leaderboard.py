"""The leaderboard: a pure function of the records."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from benchmark.statistics import seed_interval
from benchmark.store import Record

COLUMNS = (
    "protocol", "dataset", "preset", "teacher", "backbone", "method", "metric", "n_seeds", "mean", "ci95",
    "episode_ci95", "best", "rank", "status", "provenance",
)  # fmt: skip
_CELL = ("protocol", "dataset", "preset", "teacher", "backbone", "method", "provenance")
_POOL = ("protocol", "dataset", "preset_pool", "teacher", "backbone", "provenance")


def leaderboard(records: Iterable[Record]) -> pd.DataFrame:
    """One row per protocol, data set, preset, teacher, backbone and method, with the columns of ``COLUMNS``.

    mean and ci95 are of the values over seeds (Student t; empty for one seed); episode_ci95 is the half-width that
    the draw of episodes alone leaves on that mean. Methods are ranked within one protocol, data set, preset, teacher
    and backbone, by mean, and only those that have every seed that any method of the pool has: the others are
    ``incomplete``, those whose runs failed ``failed``. Where the same seed was measured more than once, the latest
    record counts.
    """
    cells: dict[tuple[str, ...], dict[int, Record]] = defaultdict(dict)
    for record in sorted(records, key=lambda r: (r["status"] == "done", r.get("started", ""), r["key"])):
        cell = tuple(str(record[name]) for name in _CELL)
        cells[cell][record["seed"]] = record
    rows = [_row(key, by_seed) for key, by_seed in sorted(cells.items())]
    pools: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        pools[tuple(row[name] for name in _POOL)].append(row)
    for pool in pools.values():
        _rank(pool)
    frame = pd.DataFrame(rows, columns=[*COLUMNS])
    return frame.astype({"n_seeds": "int64", "rank": "Int64", "best": "boolean"})


def _row(key: tuple[str, ...], by_seed: dict[int, Record]) -> dict[str, Any]:
    protocol, dataset, preset, teacher, backbone, method, provenance = key
    done = {seed: r for seed, r in by_seed.items() if r["status"] == "done"}
    row: dict[str, Any] = {
        "protocol": protocol, "dataset": dataset, "preset": preset, "teacher": teacher, "backbone": backbone,
        "method": method, "metric": next((r["metric"] for r in done.values()), ""), "n_seeds": len(done), "mean":
        math.nan, "ci95": math.nan, "episode_ci95": math.nan, "best": pd.NA, "rank": pd.NA, "status": "failed",
        "provenance": provenance, "preset_pool": _without_method(preset), "seeds": set(by_seed), "done": set(done),
    }  # fmt: skip
    if done:
        interval = seed_interval([done[seed]["value"] for seed in sorted(done)])
        row |= {"mean": interval.mean, "status": "done"}
        if interval.half_width is not None:
            row["ci95"] = interval.half_width
        halves = [done[seed]["intervals"].get("episode", {}).get("half_width") for seed in sorted(done)]
        if all(half is not None for half in halves):
            row["episode_ci95"] = math.sqrt(sum(half**2 for half in halves)) / len(halves)
    return row


def _without_method(preset: str) -> str:
    """A pool holds equal conditions: a method's own settings do not part it from the others."""
    return "+".join(part for part in preset.split("+") if not part.startswith("method."))


def _rank(pool: Sequence[dict[str, Any]]) -> None:
    wanted = set().union(*(row["seeds"] for row in pool))
    complete = [row for row in pool if row["done"] == wanted]
    for row in pool:
        if row["status"] == "done" and row["done"] != wanted:
            row["status"] = "incomplete"
    for row in complete:
        row["rank"] = 1 + sum(other["mean"] > row["mean"] for other in complete)
        row["best"] = row["rank"] == 1


def to_csv(frame: pd.DataFrame) -> str:
    """The table as CSV with six decimals, the same text for the same records."""
    return frame.to_csv(index=False, float_format="%.6f", lineterminator="\n")
