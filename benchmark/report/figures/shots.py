"""Accuracy against the number of labelled images per novel class."""

from __future__ import annotations

import re

from benchmark.report.figures import FIGURES, NothingToDraw, RenderedFigure, ResultSet
from benchmark.report.figures.lines import draw_lines, make_lines, table

_NAME = re.compile(r"((?:few|middle)shot-\d+way)(\d+)shot")


@FIGURES.register("shots")
def shots(result_set: ResultSet) -> list[RenderedFigure]:
    """Accuracy against shots, of middleshot-* and of fewshot-* protocols with as many ways."""
    drawings = []
    for group in result_set.groups(_family):
        lines = make_lines(group, _shots, {"teacher": "teacher", "pixels": "raw pixels"})
        if len({x for line in lines for x in line.points}) < 2:
            continue
        figure = draw_lines(lines, group, along="shots: labelled images per class", log=True)
        drawings.append(RenderedFigure(group.name("shots"), figure, table(lines, "shots")))
    if not drawings:
        raise NothingToDraw("no conditions under which two numbers of shots are measured with as many ways")
    return drawings


def _family(protocol: str) -> str | None:
    match = _NAME.fullmatch(protocol)
    return match and match[1]


def _shots(protocol: str) -> int:
    match = _NAME.fullmatch(protocol)
    assert match is not None
    return int(match[2])
