"""Accuracy against the share of classes that teacher and student have in common."""

from __future__ import annotations

import re

from benchmark.report.figures import FIGURES, NothingToDraw, RenderedFigure, ResultSet
from benchmark.report.figures.lines import draw_lines, make_lines, table


@FIGURES.register("overlap")
def overlap(result_set: ResultSet) -> list[RenderedFigure]:
    """Accuracy against the share of classes that teacher and student have in common (distill-*)."""
    drawings = []
    for group in result_set.groups(lambda protocol: "overlap" if share(protocol) is not None else None):
        lines = make_lines(group, lambda protocol: share(protocol) or 0, {"teacher_ncm": "teacher NCM"})
        if len({x for line in lines for x in line.points}) < 2:
            continue
        figure = draw_lines(lines, group, along="classes of the student that the teacher knows (%)")
        drawings.append(RenderedFigure(group.name("overlap"), figure, table(lines, "share_percent")))
    if not drawings:
        raise NothingToDraw(
            "no conditions under which two of distill-cross, distill-overlap{P} and distill-same are measured"
        )
    return drawings


def share(protocol: str) -> int | None:
    """Return the percentage of classes that teacher and student share; None for protocols of another family."""
    if match := re.fullmatch(r"distill-overlap(\d+)", protocol):
        return int(match[1])
    return {"distill-cross": 0, "distill-same": 100}.get(protocol)
