"""Loss terms along training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from benchmark.report.aggregation import MethodResult
from benchmark.report.figures import FIGURES, FigureGroup, NothingToDraw, RenderedFigure, ResultSet, style
from benchmark.report.figures.figure import identity
from benchmark.report.figures.labels import spread

_ACROSS = 4
"""Number of panels in a row."""

_LABELS = 20.5
"""Width in points of a panel's tick labels; longer labels are drawn smaller."""


@FIGURES.register("curves")
def curves(result_set: ResultSet) -> list[RenderedFigure]:
    """Loss terms along training, a panel per method, with the stages' boundaries."""
    drawings = []
    for group in result_set.groups():
        trained = group.only(result for result in group.results if any(run["history"] for run in result.done.values()))
        if trained.results:
            panels = [(result, history(result)) for result in trained.ranked()]
            data = pd.concat([table.assign(**identity(result), label=group.label(result)) for result, table in panels])
            drawings.append(RenderedFigure(group.name("curves"), _draw(trained, panels), data))
    if not drawings:
        raise NothingToDraw("no finished run of a method that trains anything")
    return drawings


def history(result: MethodResult) -> pd.DataFrame:
    """Return a row per step and term: its mean, smallest and largest value over seeds, and the number of seeds."""
    values = pd.DataFrame(
        (
            {"step": int(report["step"]), "stage": report["stage"], "term": term, "value": value}
            for run in result.done.values()
            for report in run["history"]
            for term, value in report.items()
            if term not in ("stage", "step")
        )
    )
    table = values.groupby(["step", "stage", "term"])["value"].agg(["mean", "min", "max", "count"])
    return table.rename(columns={"count": "n_seeds"}).reset_index()


def _draw(group: FigureGroup, panels: Sequence[tuple[MethodResult, pd.DataFrame]]) -> Figure:
    across = max(2, min(len(panels), _ACROSS))
    down = math.ceil(len(panels) / across)
    width, height, foot = style.DOUBLE / _ACROSS, 35.0, 12.0
    figure = style.canvas(across * width, down * height + foot + 5, group.title)
    stages = max(table["stage"].nunique() for _, table in panels)
    for i, (result, table) in enumerate(panels):
        row, column = divmod(i, across)
        frame = style.axes(figure, column * width + 9.5, foot + (down - 1 - row) * height + 5, width - 26, height - 14)
        _panel(figure, frame, result, table)
        color = style.legible(style.look(result.method).color)
        frame.set_title(
            group.label(result).replace(" (", "\n("), loc="left", pad=(3, 9, 15)[min(stages, 3) - 1], color=color
        )
        if i + across >= len(panels):
            frame.set_xlabel("step", labelpad=1)
    several = any(len(result.done) > 1 for result, _ in panels)
    style.footnote(
        figure,
        "weighted loss terms" + (": means over seeds, bands from the least to the largest" if several else ""),
        "dotted: the next stage begins",
        group.footnote,
    )
    return figure


def _panel(figure: Figure, frame: Axes, result: MethodResult, table: pd.DataFrame) -> None:
    """Draw cross-entropy in black and the other terms in the method's colour, each with its own dashes.

    Names are to the right of the frame; terms that end in an earlier stage have theirs at their first step.
    """
    least, most = float(table["min"].min()), float(table["max"].max())
    frame.yaxis.set_major_locator(MaxNLocator(4))
    if most > 10 * least > 0:
        frame.set_yscale("log")
        frame.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if most < 100 * least else (1,)))
        frame.yaxis.set_major_formatter("{x:g}")
        frame.yaxis.set_minor_formatter(NullFormatter())
    frame.set_xlim(0, float(table["step"].max()))
    dash_cycle = itertools.cycle(["-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1))])
    ends: list[tuple[str, str, float]] = []
    for term, rows in table.groupby("term"):
        color, dashes = (style.INK, "-") if term == "ce" else (style.look(result.method).color, next(dash_cycle))
        frame.plot(rows["step"], rows["mean"], color=color, linestyle=dashes)
        frame.fill_between(rows["step"], rows["min"], rows["max"], color=color, alpha=0.2, linewidth=0)
        if rows["step"].max() == table["step"].max():
            ends.append((str(term), style.legible(color), float(rows["mean"].iloc[-1])))
        else:
            frame.annotate(
                str(term), (rows["step"].iloc[0], rows["mean"].iloc[0]), (1, 3), textcoords="offset points",
                size=style.SMALL, color=style.legible(color),
            )  # fmt: skip
    widest = max(style.text_width(label.get_text(), 7) for label in frame.get_yticklabels())
    frame.tick_params(axis="y", labelsize=7 * _LABELS / max(_LABELS, widest))
    _name_stages(frame, table.groupby("stage")["step"].max().sort_values())
    _name_ends(figure, frame, ends)


def _name_stages(frame: Axes, lasts: pd.Series[int]) -> None:
    """Draw the stages' names above the frame and their boundaries within it; nothing for a single stage."""
    if len(lasts) < 2:
        return
    options: dict[str, Any] = {
        "xycoords": frame.get_xaxis_transform(), "textcoords": "offset points", "size": 5.5, "color": style.GREY,
    }  # fmt: skip
    for i, (name, start, end) in enumerate(zip(lasts.index, [0, *lasts], lasts, strict=False)):
        if start:
            frame.axvline(start, color=style.GREY, linewidth=0.6, linestyle=(0, (1, 1.5)))
        if i == 0:
            frame.annotate(name, (0, 1), (-4, 1), ha="left", **options)
        elif i == len(lasts) - 1:
            frame.annotate(name, (end, 1), (4, 1), ha="right", **options)
        else:
            frame.annotate(name, ((start + end) / 2, 1), (0, 7), ha="center", **options)


def _name_ends(figure: Figure, frame: Axes, ends: Sequence[tuple[str, str, float]]) -> None:
    """Draw names to the right of the frame, each in its colour and joined to the end of its line."""
    to_points = frame.transData + style.points(figure).inverted()
    box = frame.get_window_extent().transformed(style.points(figure).inverted())
    line_heights = [float(to_points.transform((frame.get_xlim()[1], y))[1]) for _, _, y in ends]
    name_heights = spread(line_heights, 7.5, box.y0 + 3, box.y1 - 3)
    for (term, color, _), line_height, name_height in zip(ends, line_heights, name_heights, strict=True):
        options: dict[str, Any] = {"transform": style.points(figure), "color": color}
        figure.add_artist(Line2D([box.x1 + 1, box.x1 + 5], [line_height, name_height], linewidth=0.4, **options))
        figure.text(box.x1 + 6, name_height, term, size=style.SMALL, va="center_baseline", **options)
