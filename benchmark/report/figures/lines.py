"""Lines of accuracy along a condition, with intervals over seeds and names at their right ends."""

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
"""Distance between names in mm."""

_SHIFT = 9.0
"""Width in points over which the bars at one position are spread."""


@dataclass(frozen=True)
class Line:
    """The line of a method or of a reference."""

    label: str
    method: str | None
    """None for a reference."""
    points: Mapping[float, tuple[MethodResult, Interval]]
    """Result and interval in [0, 1] by position."""
    hollow: bool = False
    """Whether the marker is an outline."""

    @property
    def is_reference(self) -> bool:
        """Whether the line shows a reference rather than a method."""
        return self.method is None

    @property
    def look(self) -> dict[str, Any]:
        """Plot options: the method's colour and marker, or grey dashes for a reference."""
        if self.method is None:
            return {"color": style.GREY, "linewidth": 1.2, "linestyle": (0, (4, 2))}
        return style.look(self.method).dot(self.hollow)


def make_lines(group: FigureGroup, position: Callable[[str], float], references: Mapping[str, str]) -> list[Line]:
    """Make one line per label of the group's results, then one per reference.

    A variant is left out if it lacks a position of its method: its line would pass through positions without a value.

    Args:
        group: Results under several protocols.
        position: Returns the position of a protocol's results on the horizontal axis.
        references: Labels of references by name.
    """
    points_by_line: dict[tuple[str, str, bool], dict[float, tuple[MethodResult, Interval]]] = {}
    by_position: dict[float, list[MethodResult]] = {}
    for result in group.results:
        x = position(result.conditions.protocol)
        key = group.label(result), result.method, is_variant(result)
        points_by_line.setdefault(key, {})[x] = result, result.interval()
        by_position.setdefault(x, []).append(result)
    lines = [
        Line(label, method, dict(sorted(points.items())), hollow)
        for (label, method, hollow), points in points_by_line.items()
    ]
    method_positions = {line.method: set(line.points) for line in lines if not line.hollow}
    lines = [line for line in lines if not line.hollow or set(line.points) >= method_positions.get(line.method, set())]
    for name, label in references.items():
        carriers = {x: reference_of(results, name) for x, results in sorted(by_position.items())}
        points = {x: (result, result.interval(name)) for x, result in carriers.items() if result is not None}
        if points:
            lines.append(Line(label, None, points))
    return lines


def table(lines: Sequence[Line], position: str) -> pd.DataFrame:
    """Return the data of the lines: a row per line and position. References have no method."""
    return pd.DataFrame([
        {
            "line": line.label, position: x, "mean": interval.mean, "ci95": interval.half_width,
            "n_seeds": interval.n, **identity(result), "method": line.method,
        }
        for line in lines
        for x, (result, interval) in line.points.items()
    ])  # fmt: skip


def draw_lines(lines: Sequence[Line], group: FigureGroup, *, along: str, log: bool = False) -> Figure:
    """Draw the lines in one frame whose height fits their names.

    Args:
        lines: The lines to draw.
        group: The group of their results.
        along: Label of the horizontal axis.
        log: Make the horizontal axis logarithmic.
    """
    height = max(68.0, _ROW * len(lines))
    figure = style.canvas(style.DOUBLE, height + 23, group.title)
    names_width = max(style.text_width(line.label, 7) for line in lines) * 25.4 / 72
    frame = style.axes(figure, 13, 16, style.DOUBLE - 13 - names_width - 11, height)
    ticks = sorted({x for line in lines for x in line.points})
    frame.set_xscale("log" if log else "linear")
    frame.set_xticks(ticks, [f"{x:g}" for x in ticks])
    frame.minorticks_off()
    for i, line in enumerate(lines):
        _draw(frame, line, _SHIFT * ((i + 0.5) / len(lines) - 0.5))
    _set_limits(frame, lines)
    frame.set_xlabel(along)
    frame.set_ylabel(f"{group.results[0].metric} (%)")
    _draw_names(figure, frame, lines)
    hidden = len({group.label(result) for result in group.results} - {line.label for line in lines})
    hidden_note = f"not shown: {hidden} variant{'s' * (hidden > 1)} measured at some places only" if hidden else ""
    style.footnote(figure, seed_bars(group.results), group.footnote, hidden_note)
    return figure


def _set_limits(frame: Axes, lines: Sequence[Line]) -> None:
    """Set limits that leave room for all values and bars, including shifted bars at both sides."""
    intervals = [percent(interval) for line in lines for _, interval in line.points.values()]
    low = min(i.mean - (i.half_width or 0) for i in intervals)
    high = max(i.mean + (i.half_width or 0) for i in intervals)
    room = 0.04 * (high - low) or 1
    frame.set_ylim(max(low, 0) - room, min(high, 100) + room)
    to_axis = frame.xaxis.get_transform()
    positions = to_axis.transform([x for line in lines for x in line.points])
    room = 0.05 * float(np.ptp(positions))
    frame.set_xlim(*to_axis.inverted().transform([min(positions) - room, max(positions) + room]))


def _draw(frame: Axes, line: Line, shift: float) -> None:
    """Draw the means joined by a line, and bars over seeds. A shift in points keeps bars of several lines apart."""
    figure = frame.get_figure(root=True)
    assert figure is not None
    moved = frame.transData + ScaledTranslation(shift / 72, 0, figure.dpi_scale_trans)
    intervals = {x: percent(interval) for x, (_, interval) in line.points.items()}
    means = [interval.mean for interval in intervals.values()]
    frame.plot(list(intervals), means, transform=moved, **line.look, zorder=3 - line.is_reference)
    bars = [(x, i.mean, i.half_width) for x, i in intervals.items() if i.half_width is not None]
    if bars:
        positions, centres, halves = zip(*bars, strict=True)
        frame.errorbar(
            positions, centres, yerr=halves, transform=moved, fmt="none", ecolor=line.look["color"], elinewidth=0.6,
            alpha=0.7, zorder=1,
        )  # fmt: skip


def _draw_names(figure: Figure, frame: Axes, lines: Sequence[Line]) -> None:
    """Draw the names in a column to the right, in the order of the lines' ends, joined to those ends.

    The name of a line that stops before the last position is not joined: the joint would look like its continuation.
    """
    to_points = frame.transData + style.points(figure).inverted()
    box = frame.get_window_extent().transformed(style.points(figure).inverted())
    last = max(x for line in lines for x in line.points)
    ends = []
    for line in lines:
        x, (_, interval) = list(line.points.items())[-1]
        ends.append((x == last, *map(float, to_points.transform((x, 100 * interval.mean)))))
    gap = _ROW * 72 / 25.4
    heights = spread([y for _, _, y in ends], gap, box.y0 + gap / 4, box.y1 - gap / 4)
    column = box.x1 + 18
    for line, (near, x, y), height in zip(lines, ends, heights, strict=True):
        color = line.look["color"]
        if near:
            bend = [x + 6, box.x1 + 1, column - 7], [y, y, height]
            figure.add_artist(Line2D(*bend, transform=style.points(figure), color=color, linewidth=0.4, alpha=0.6))
        sample = [column - 6, column + 4] if line.is_reference else [column]
        figure.add_artist(Line2D(sample, [height] * len(sample), transform=style.points(figure), **line.look))
        figure.text(
            column + 6, height, line.label, transform=style.points(figure), color=style.legible(color),
            va="center_baseline", size=7,
        )  # fmt: skip
