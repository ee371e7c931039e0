"""Published numbers beside what a recipe has measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmark.records.run_label import parse_label
from benchmark.records.schema import Record
from benchmark.report.aggregation import group_by_method
from benchmark.report.leaderboard import reported
from benchmark.statistics import Interval

Where = tuple[str, str, str, str]
"""Protocol, teacher, student, method."""


@dataclass(frozen=True)
class PublishedNumber:
    """A publication's accuracy in [0, 1], and where it stands."""

    value: float
    source: str


@dataclass(frozen=True)
class PublishedComparison:
    """What stands side by side for one method: published, and measured over seeds; either may be missing."""

    where: Where
    published: PublishedNumber | None
    measured: Interval | None


def published_numbers(recipe: str) -> dict[Where, PublishedNumber]:
    """What publications report for a recipe, in the order of the table."""
    table = reported()
    rows = table[table["recipe"] == recipe].to_dict("records")
    return {
        (row["protocol"], row["teacher"], row["backbone"], row["method"]): PublishedNumber(row["mean"], row["source"])
        for row in rows
    }


def beside_measured(recipe: str, records: Iterable[Record]) -> list[PublishedComparison]:
    """Every published number of a recipe and every record of it whose settings are the recipe's own."""
    numbers = published_numbers(recipe)
    measured: dict[Where, Interval] = {}
    for result in group_by_method(records):
        conditions = result.conditions
        if result.preset == recipe and conditions.provenance == "measured" and result.done:
            where = conditions.protocol, conditions.teacher, conditions.backbone, result.method
            measured[where] = result.interval()
    every = dict.fromkeys([*numbers, *measured])
    return [PublishedComparison(where, numbers.get(where), measured.get(where)) for where in every]


def published_for(record: Record) -> tuple[PublishedNumber | None, list[str]]:
    """The published number of a recipe's record, and the settings in which the record is not the recipe."""
    recipe, changed = parse_label(str(record["preset"]))
    where = record["protocol"], record["teacher"], record["backbone"], record["method"]
    return published_numbers(recipe).get(where), changed
