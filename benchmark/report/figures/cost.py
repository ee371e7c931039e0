"""Accuracy against training time."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from benchmark.report.aggregation import MethodResult
from benchmark.report.figures import FIGURES, FigureGroup, NothingToDraw, RenderedFigure, ResultSet, style
from benchmark.report.figures.figure import identity, is_variant, percent, seed_bars
from benchmark.report.figures.points import Dot, draw_dots, name_dots, plane
from benchmark.statistics import Interval, seed_interval

_LOG_FROM = 8
"""Ratio of the longest to the shortest training above which the axis is logarithmic."""


@FIGURES.register("cost")
def cost(result_set: ResultSet) -> list[RenderedFigure]:
    """Accuracy against the seconds that the training of the student took."""
    groups = result_set.groups()
    if not groups:
        raise NothingToDraw("no finished run of any protocol")
    return [RenderedFigure(group.name("cost"), _draw(group), _table(group)) for group in groups]


def _table(group: FigureGroup) -> pd.DataFrame:
    """Return a row per method, best first."""
    rows = []
    for result in group.ranked():
        accuracy, seconds = result.interval(), _seconds(result)
        rows.append({
            **identity(result), "label": group.label(result), "n_seeds": accuracy.n, "mean": accuracy.mean,
            "ci95": accuracy.half_width, "seconds": seconds.mean, "seconds_ci95": seconds.half_width,
            "machine": "; ".join(_machines([result])),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _seconds(result: MethodResult) -> Interval:
    return seed_interval([run["student_facts"]["seconds"] for run in result.done.values()])


def _machines(results: list[MethodResult]) -> list[str]:
    """Return the devices on which the students were trained."""
    machines = set()
    for result in results:
        for run in result.done.values():
            machine = run["environment"]
            cpu = f"{machine['cpu']}, {machine['threads']} thread{'s' * (machine['threads'] != 1)}"
            machines.add(cpu if machine["device"] == "cpu" else str(machine["gpu"] or machine["device"]))
    return sorted(machines)


def _draw(group: FigureGroup) -> Figure:
    results = group.ranked()
    figure, frame = plane(len(results), group.title)
    dots = []
    for result in results:
        seconds = _seconds(result)
        name, note = group.label(result), f"{seconds.mean:.3g}"
        dots.append(Dot(name, result.method, seconds, percent(result.interval()), note, is_variant(result)))
    times = [dot.x.mean for dot in dots]
    log = max(times) > _LOG_FROM * min(times) > 0
    if log:
        frame.set_xscale("log", nonpositive="clip")
        frame.xaxis.set_major_formatter("{x:g}")
        frame.xaxis.set_minor_formatter(LogFormatter())
    draw_dots(frame, dots)
    frame.margins(0.05)
    # a bar that reaches zero would extend a logarithmic axis without limit
    frame.set_xlim(left=max(frame.get_xlim()[0], min(times) / 3 if log else 0.0))
    frame.set_xlabel(f"training of the student (s), on {' and on '.join(_machines(results))}")
    frame.set_ylabel(f"{results[0].metric} (%)")
    name_dots(figure, frame, dots, "training (s)")
    style.footnote(figure, seed_bars(results), group.footnote)
    return figure
