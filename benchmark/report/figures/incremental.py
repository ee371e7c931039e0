"""Accuracy on old and on new classes after classes are added."""

from __future__ import annotations

import itertools
import math
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmark.report.figures import FIGURES, FigureGroup, NothingToDraw, RenderedFigure, ResultSet, style
from benchmark.report.figures.figure import identity, is_variant, percent, reference_of, seed_bars
from benchmark.report.figures.points import Dot, draw_dots, name_dots, plane

_MEASURES = ("old", "new", "harmonic")
Value = TypeVar("Value", float, npt.NDArray[np.float64])


@FIGURES.register("incremental")
def incremental(result_set: ResultSet) -> list[RenderedFigure]:
    """Accuracy on new classes against old ones after classes are added, with contours of the harmonic mean."""
    groups = result_set.groups(lambda protocol: protocol if protocol.startswith("incremental-1step-") else None)
    if not groups:
        raise NothingToDraw("no finished run of an incremental-1step-{E}exemplars protocol")
    return [RenderedFigure(group.name("incremental"), _draw(group), _table(group)) for group in groups]


def _table(group: FigureGroup) -> pd.DataFrame:
    """Return a row per method, best harmonic mean first, then the teacher on the old classes."""
    rows = []
    for result in group.ranked("harmonic"):
        row: dict[str, object] = {**identity(result), "label": group.label(result), "n_seeds": len(result.done)}
        for name in _MEASURES:
            interval = result.interval(name)
            row |= {name: interval.mean, f"{name}_ci95": interval.half_width}
        rows.append(row)
    if (teacher := reference_of(group.results, "teacher_old")) is not None:
        interval = teacher.interval("teacher_old")
        row = {**identity(teacher), "method": None, "label": "teacher", "n_seeds": interval.n}
        rows.append({**row, "old": interval.mean, "old_ci95": interval.half_width})
    return pd.DataFrame(rows)


def _draw(group: FigureGroup) -> Figure:
    results = group.ranked("harmonic")
    figure, frame = plane(len(results), group.title, head=12)
    dots = [
        Dot(
            group.label(result), result.method, percent(result.interval("old")), percent(result.interval("new")),
            f"{100 * result.interval('harmonic').mean:.1f}", is_variant(result),
        )
        for result in results
    ]  # fmt: skip
    low = [_cut([getattr(dot, axis).mean for dot in dots]) for axis in ("x", "y")]
    shown = [dot for dot in dots if dot.x.mean >= low[0] and dot.y.mean >= low[1]]
    draw_dots(frame, shown)
    teacher = reference_of(results, "teacher_old")
    if teacher is not None:
        teacher_old = 100 * teacher.interval("teacher_old").mean
        frame.axvline(teacher_old, color=style.GREY, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    frame.margins(0.04)
    left, right = frame.get_xlim()
    bottom, top = frame.get_ylim()
    frame.set_xlim(max(left, -2), min(right, 102))
    frame.set_ylim(max(bottom, -2), min(top, 102))
    frame.set_xlabel("accuracy on old classes (%)")
    frame.set_ylabel("accuracy on new classes (%)")
    name_dots(figure, frame, shown, "harmonic mean (%)")
    if teacher is not None:
        frame.annotate(
            f"teacher on old classes {teacher_old:.1f}", (teacher_old, 1), (0, 10),
            xycoords=frame.get_xaxis_transform(), textcoords="offset points", size=style.SMALL, color=style.GREY,
            ha="right", va="bottom",
        )  # fmt: skip
    _draw_contours(frame)
    beyond = [f"{dot.label} (old {dot.x.mean:.1f}, new {dot.y.mean:.1f})" for dot in dots if dot not in shown]
    style.footnote(
        figure,
        seed_bars(results),
        "contours: harmonic mean of the two (%)",
        f"beyond the frame: {', '.join(beyond)}" if beyond else "",
        group.footnote,
    )
    return figure


_FAR = 25.0
"""Gap in percentage points from which the few methods below it are named in the footnote instead of drawn."""


def _cut(values: list[float]) -> float:
    """Return the lower end of an axis: above a large gap that has few values below it, else minus infinity."""
    ordered = sorted(values)
    gaps = [(upper - lower, upper) for lower, upper in itertools.pairwise(ordered)]
    widest, above = max(gaps, default=(0.0, 0.0))
    large = widest > max(_FAR, (ordered[-1] - ordered[0]) / 2)
    return above if large and ordered.index(above) <= len(ordered) / 4 else -math.inf


def _draw_contours(frame: Axes) -> None:
    """Draw lines of equal harmonic mean, each with its value at the top or right edge of the frame."""
    (left, right), (bottom, top) = frame.get_xlim(), frame.get_ylim()
    ends = (2 * old * new / (old + new) for old, new in ((max(left, 1), max(bottom, 1)), (right, top)))
    options: dict[str, Any] = {
        "textcoords": "offset points", "size": style.SMALL, "color": style.GREY, "annotation_clip": False,
    }  # fmt: skip
    for level in MaxNLocator(14, steps=[1, 2, 5, 10]).tick_values(*ends):
        if level <= 0:
            continue
        # the curve has a pole at level / 2 and falls to its right
        old = np.linspace(max(left, level / 2 + 1e-3), right, 400)
        frame.plot(old, _partner(old, level), color=style.PALE, linewidth=0.5, zorder=0, scaley=False, scalex=False)
        if top > level / 2 and left < (x := _partner(top, level)) < right:
            frame.annotate(f"{level:g}", (x, top), (0, 1), ha="center", va="bottom", **options)
        elif right > level / 2 and bottom < (y := _partner(right, level)) < top:
            frame.annotate(f"{level:g}", (right, y), (2, 0), ha="left", va="center", **options)


def _partner(accuracy: Value, harmonic: float) -> Value:
    """Return the accuracy that has the given harmonic mean with ``accuracy``."""
    return harmonic * accuracy / (2 * accuracy - harmonic)
