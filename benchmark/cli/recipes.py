"""Recipes on the command line: their files, and published beside measured numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from benchmark.display.console import say
from benchmark.recipes.recipe import load_recipe, recipe_names

if TYPE_CHECKING:
    from benchmark.records.schema import Record
    from benchmark.report.published_numbers import PublishedComparison


def recipe_rows() -> list[list[str]]:
    """Return the name and title of each recipe."""
    return [[name, load_recipe(name).title] for name in recipe_names()]


def show_recipe(name: str, records: Iterable[Record]) -> None:
    """Print the file of a recipe, then its published numbers beside those measured in ``records``."""
    from benchmark.display.tables import print_table
    from benchmark.report.published_numbers import beside_measured

    say(load_recipe(name).text)
    rows = beside_measured(name, records)
    if not rows:
        say("no verified published number, and none measured here")
        return
    sources = list(dict.fromkeys(number.source for row in rows for number in row.published))
    marks = {source: f" [{number}]" if len(sources) > 1 else "" for number, source in enumerate(sources, 1)}
    protocols = {row.key[0] for row in rows}
    first = len(protocols) == 1
    print_table(
        f"{name}, published and measured accuracy" + (f": {protocols.pop()}" if first else ""),
        ["protocol", "teacher", "student", "method", "paper %", "here %", "± seeds", "seeds"][first:],
        [_row(row, marks)[first:] for row in rows],
    )
    for source, mark in marks.items():
        say(f"paper{mark}: {source}")


def print_published(records: list[Record]) -> None:
    """Print the published numbers for the runs of a recipe, and the settings in which they differ from it."""
    from benchmark.report.published_numbers import published_for

    name = str(records[0]["preset"]).partition("+")[0]
    if name not in recipe_names():
        return
    numbers, changed = published_for(records[0])
    if not numbers:
        say(f"published: no verified number for this run of {name}")
    for number in numbers:
        say(f"published: {100 * number.value:.2f} % ({number.source})")
    if changed:
        say(f"settings that differ from the recipe: {', '.join(changed)}")


def _row(row: PublishedComparison, marks: Mapping[str, str]) -> list[str]:
    paper = ", ".join(f"{100 * number.value:.2f}{marks[number.source]}" for number in row.published)
    if row.measured is None:
        return [*row.key, paper, "", "", ""]
    half = "" if row.measured.half_width is None else f"± {100 * row.measured.half_width:.2f}"
    return [*row.key, paper, f"{100 * row.measured.mean:.2f}", half, str(row.measured.n)]
