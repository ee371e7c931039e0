"""Lines of accuracy along a condition, with intervals over seeds, each named beside its right end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from benchmark.report.aggregation import MethodResult
from benchmark.report.figures import style
from benchmark.report.figures.figure import FigureGroup, identity, is_variant, percent, reference_of, seed_bars
from benchmark.report.figures.labels import spread
from benchmark.statistics import Interval

_ROW = 3.3
"""Millimetres from one name to the next."""

_SHIFT = 9.0
"""Points over which the bars at one place are spread."""


@dataclass(frozen=True)
class Line:
    """A method, or without one a reference: by position, the result and its interval in [0, 1]."""

    label: str
    method: str | None
    points: Mapping[float, tuple[MethodResult, Interval]]
    hollow: bool = False

    @property
    def is_reference(self) -> bool:
        """Whether it is no method's."""
        return self.method is None

    @property
    def look(self) -> dict[str, Any]:
        """Options of a plot: the method's colour and marker, or dashes in grey."""
        if self.method is None:
            return {"color": style.GREY, "linewidth": 1.2, "linestyle": (0, (4, 2))}
        return style.look(self.method).dot(self.hollow)


def make_lines(group: FigureGroup, position: Callable[[str], float], references: Mapping[str, str]) -> list[Line]:
    """The group's results as lines by label, and its references by their labels.

    A variant that was not measured wherever its method was is left out: its line would lead through places that it has
    no value for. position: from a protocol's name to where its results stand.
    """
    found: dict[tuple[str, str, bool], dict[float, tuple[MethodResult, Interval]]] = {}
    by_place: dict[float, list[MethodResult]] = {}
    for result in group.results:
        x = position(result.conditions.protocol)
        found.setdefault((group.label(result), result.method, is_variant(result)), {})[x] = result, result.interval()
        by_place.setdefault(x, []).append(result)
    lines = [
        Line(label, method, dict(sorted(points.items())), hollow) for (label, method, hollow), points in found.items()
    ]
    whole = {line.method: set(line.points) for line in lines if not line.hollow}
    lines = [line for line in lines if not line.hollow or set(line.points) >= whole.get(line.method, set())]
    for name, label in references.items():
        carriers = {x: reference_of(results, name) for x, results in sorted(by_place.items())}
        points = {x: (result, result.interval(name)) for x, result in carriers.items() if result is not None}
        if points:
            lines.append(Line(label, None, points))
    return lines


def table(lines: Sequence[Line], position: str) -> pd.DataFrame:
    """What the lines show: a row per line and position. References have no method."""
    return pd.DataFrame([
        {
            "line": line.label, position: x, "mean": interval.mean, "ci95": interval.half_width,
            "n_seeds": interval.n, **identity(result), "method": line.method,
        }
        for line in lines
        for x, (result, interval) in line.points.items()
    ])  # fmt: skip


def draw_lines(lines: Sequence[Line], group: FigureGroup, *, along: str, log: bool = False) -> Figure:
    """The lines in one frame, as high as their names ask for. ``along``: what the horizontal axis shows."""
    high = max(68.0, _ROW * len(lines))
    figure = style.canvas(style.DOUBLE, high + 23, group.title)
    names = max(style.text_width(line.label, 7) for line in lines) * 25.4 / 72
    frame = style.axes(figure, 13, 16, style.DOUBLE - 13 - names - 11, high)
    ticks = sorted({x for line in lines for x in line.points})
    frame.set_xscale("log" if log else "linear")
    frame.set_xticks(ticks, [f"{x:g}" for x in ticks])
    frame.minorticks_off()
    for i, line in enumerate(lines):
        _draw(frame, line, _SHIFT * ((i + 0.5) / len(lines) - 0.5))
    _limit(frame, lines)
    frame.set_xlabel(along)
    frame.set_ylabel(f"{group.results[0].metric} (%)")
    _name(figure, frame, lines)
    out = len({group.label(result) for result in group.results} - {line.label for line in lines})
    left = f"not shown: {out} variant{'s' * (out > 1)} measured at some places only" if out else ""
    style.footnote(figure, seed_bars(group.results), group.footnote, left)
    return figure


def _limit(frame: Axes, lines: Sequence[Line]) -> None:
    """Room for all values and bars, and to the left and right for bars that are shifted."""
    intervals = [percent(interval) for line in lines for _, interval in line.points.values()]
    low = min(i.mean - (i.half_width or 0) for i in intervals)
    high = max(i.mean + (i.half_width or 0) for i in intervals)
    room = 0.04 * (high - low) or 1
    frame.set_ylim(max(low, 0) - room, min(high, 100) + room)
    to_axis = frame.xaxis.get_transform()
    places = to_axis.transform([x for line in lines for x in line.points])
    room = 0.05 * float(np.ptp(places))
    frame.set_xlim(*to_axis.inverted().transform([min(places) - room, max(places) + room]))


def _draw(frame: Axes, line: Line, shift: float) -> None:
    """Means joined by a line, and a bar where there is more than one seed; shifted by points, so that bars part."""
    figure = frame.get_figure(root=True)
    assert figure is not None
    moved = frame.transData + ScaledTranslation(shift / 72, 0, figure.dpi_scale_trans)
    found = {x: percent(interval) for x, (_, interval) in line.points.items()}
    frame.plot(
        list(found), [i.mean for i in found.values()], transform=moved, **line.look, zorder=3 - line.is_reference
    )
    bars = [(x, i.mean, i.half_width) for x, i in found.items() if i.half_width is not None]
    if bars:
        places, means, halves = zip(*bars, strict=True)
        frame.errorbar(
            places, means, yerr=halves, transform=moved, fmt="none", ecolor=line.look["color"], elinewidth=0.6,
            alpha=0.7, zorder=1,
        )  # fmt: skip


def _name(figure: Figure, frame: Axes, lines: Sequence[Line]) -> None:
    """Names in a column to the right, in the order of the lines' ends, joined to those ends that are nearby.

    A line to the end of one that stops short of the last place would look like its continuation.
    """
    to_points = frame.transData + style.points(figure).inverted()
    box = frame.get_window_extent().transformed(style.points(figure).inverted())
    last = max(x for line in lines for x in line.points)
    ends = []
    for line in lines:
        x, (_, interval) = list(line.points.items())[-1]
        ends.append((x == last, *map(float, to_points.transform((x, 100 * interval.mean)))))
    gap = _ROW * 72 / 25.4
    places = spread([y for _, _, y in ends], gap, box.y0 + gap / 4, box.y1 - gap / 4)
    column = box.x1 + 18
    for line, (near, x, y), place in zip(lines, ends, places, strict=True):
        color = line.look["color"]
        if near:
            bend = [x + 6, box.x1 + 1, column - 7], [y, y, place]
            figure.add_artist(Line2D(*bend, transform=style.points(figure), color=color, linewidth=0.4, alpha=0.6))
        sample = [column - 6, column + 4] if line.is_reference else [column]
        figure.add_artist(Line2D(sample, [place] * len(sample), transform=style.points(figure), **line.look))
        figure.text(
            column + 6, place, line.label, transform=style.points(figure), color=style.legible(color),
            va="center_baseline", size=7,
        )  # fmt: skip
