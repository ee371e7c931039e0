"""Few-shot accuracy of each method with its intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from benchmark.report.aggregation import MethodResult
from benchmark.report.figures import FIGURES, FigureGroup, NothingToDraw, RenderedFigure, ResultSet, style
from benchmark.report.figures.figure import identity, is_variant, reference_of, seed_bars
from benchmark.statistics import Interval

REFERENCES = {"teacher": "teacher", "pixels": "raw pixels"}


@FIGURES.register("fewshot")
def fewshot(result_set: ResultSet) -> list[RenderedFigure]:
    """Accuracy of each method on few-shot episodes, bars over seeds, beside the teacher and raw pixels."""
    groups = result_set.groups(lambda protocol: protocol if protocol.startswith("fewshot-") else None)
    if not groups:
        raise NothingToDraw("no finished run of a fewshot-{N}way{K}shot protocol")
    return [
        RenderedFigure(group.name("fewshot"), draw_accuracies(group, REFERENCES), accuracy_table(group, REFERENCES))
        for group in groups
    ]


def accuracy_table(group: FigureGroup, references: Mapping[str, str]) -> pd.DataFrame:
    """Return a row per method, best first, then the references, with half-widths by kind of interval.

    Args:
        group: The methods.
        references: Names of references as shown, by their names in records.
    """
    rows = [{**identity(result), "label": group.label(result), **_measures(result)} for result in group.ranked()]
    for name, label in references.items():
        if (result := reference_of(group.results, name)) is not None:
            rows.append({**identity(result), "method": None, "label": label, **_measures(result, name)})
    return pd.DataFrame(rows)


def _measures(result: MethodResult, reference: str | None = None) -> dict[str, float | None]:
    """Return the mean and its half-widths over seeds, draws of episodes, other images and other classes."""
    interval = result.interval(reference)
    scores = [run if reference is None else run["references"][reference] for run in result.done.values()]
    measures = {"mean": interval.mean, "ci95": interval.half_width, "n_seeds": interval.n}
    for kind in ("episode", "image", "class"):
        halves = [score["intervals"].get(kind, {}).get("half_width") for score in scores]
        if None in halves:
            measures[f"{kind}_ci95"] = None
        elif kind == "episode":
            measures["episode_ci95"] = math.hypot(*halves) / len(halves)
        else:
            # all seeds share images and classes, so more seeds do not narrow these intervals
            measures[f"{kind}_ci95"] = sum(halves) / len(halves)
    return measures


def draw_accuracies(group: FigureGroup, references: Mapping[str, str]) -> Figure:
    """Draw a row per method and reference, best first; a grey line through all rows marks each reference.

    Args:
        group: The methods.
        references: Names of references as shown, by their names in records.
    """
    results = group.ranked()
    rows = [
        (group.label(result), result.interval(), style.look(result.method).dot(is_variant(result)))
        for result in results
    ]
    lines: list[tuple[str, Interval, dict[str, Any]]] = []
    for name, label in references.items():
        if (result := reference_of(results, name)) is not None:
            lines.append((label, result.interval(name), {"color": style.GREY, "marker": "o", "markersize": 3}))
    rows = sorted(rows + lines, key=lambda row: -row[1].mean)
    margin = 3 + 25.4 / 72 * max(style.text_width(label, 7) for label, _, _ in rows)
    width = style.SINGLE if margin < style.SINGLE / 2 else style.DOUBLE
    height = 4.2 * len(rows)
    figure = style.canvas(width, height + 23, group.title)
    frame = style.axes(figure, margin, 16, width - margin - 3, height)
    for _, interval, _ in lines:
        frame.axvline(100 * interval.mean, color=style.GREY, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    for row, (_, interval, dot) in enumerate(rows):
        frame.plot([100 * interval.mean], [row], **dot, zorder=3)
        if interval.half_width is not None:
            frame.errorbar(
                [100 * interval.mean], [row], xerr=[100 * interval.half_width], fmt="none", ecolor=dot["color"],
                elinewidth=0.9, capsize=1.5, capthick=0.6, zorder=2,
            )  # fmt: skip
    frame.set_ylim(len(rows) - 0.5, -0.5)
    frame.set_yticks(range(len(rows)), [label for label, _, _ in rows])
    for tick, (_, _, dot) in zip(frame.get_yticklabels(), rows, strict=True):
        tick.set_color(style.GREY if dot["color"] == style.GREY else style.INK)
    frame.tick_params(axis="y", length=0)
    frame.spines["left"].set_visible(False)
    frame.grid(axis="y", color=style.PALE, linewidth=0.4)
    frame.set_axisbelow(True)
    frame.set_xlabel(f"{results[0].metric} (%)")
    style.footnote(figure, seed_bars(results), group.footnote)
    return figure
