"""Published numbers compared with the measurements of a recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from benchmark.records.run_label import NO_TEACHER, parse_label
from benchmark.records.schema import Record
from benchmark.report.aggregation import group_by_method
from benchmark.report.leaderboard import reported
from benchmark.statistics import Interval

NumberKey = tuple[str, str, str, str]
"""Protocol, teacher, student, method."""


@dataclass(frozen=True)
class PublishedNumber:
    """An accuracy from a publication."""

    value: float
    """Accuracy in [0, 1]."""
    source: str
    """The publication and its table."""


@dataclass(frozen=True)
class PublishedComparison:
    """The published and the measured accuracy of one method."""

    key: NumberKey
    published: tuple[PublishedNumber, ...]
    """Several if sources differ; empty if the recipe has no published number for the method."""
    measured: Interval | None
    """Mean and interval over seeds; None if no run has finished."""


def published_numbers(recipe: str) -> dict[NumberKey, tuple[PublishedNumber, ...]]:
    """Return the published numbers of a recipe, in the order of ``reported()``."""
    table = reported()
    numbers: dict[NumberKey, tuple[PublishedNumber, ...]] = {}
    for row in table[table["recipe"] == recipe].to_dict("records"):
        key = row["protocol"], row["teacher"], row["backbone"], row["method"]
        numbers[key] = (*numbers.get(key, ()), PublishedNumber(row["mean"], row["source"]))
    return numbers


def beside_measured(recipe: str, records: Iterable[Record]) -> list[PublishedComparison]:
    """Pair the published numbers of a recipe with its measurements.

    Records with settings that differ from the recipe are ignored.
    """
    numbers = published_numbers(recipe)
    measured: dict[NumberKey, Interval] = {}
    for result in group_by_method(records):
        conditions = result.conditions
        if result.preset == recipe and conditions.provenance == "measured" and result.done:
            key = conditions.protocol, conditions.teacher, conditions.backbone, result.method
            measured.update(dict.fromkeys(_published_as(key, numbers) or [key], result.interval()))
    keys = dict.fromkeys([*numbers, *measured])
    return [PublishedComparison(key, numbers.get(key, ()), measured.get(key)) for key in keys]


def published_for(record: Record) -> tuple[tuple[PublishedNumber, ...], list[str]]:
    """Return the published numbers for a record of a recipe, and the settings in which the record differs from it."""
    recipe, changed = parse_label(str(record["preset"]))
    key = record["protocol"], record["teacher"], record["backbone"], record["method"]
    known = published_numbers(recipe)
    numbers = dict.fromkeys(number for each in _published_as(key, known) for number in known[each])
    return tuple(numbers), changed


def _published_as(key: NumberKey, numbers: Mapping[NumberKey, object]) -> list[NumberKey]:
    """Return the published numbers that a measurement is compared with: of every teacher if it has none."""
    protocol, teacher, student, method = key
    return [
        each for each in numbers if each[::2] == (protocol, student) and each[3] == method
        and teacher in (NO_TEACHER, each[1])
    ]  # fmt: skip
