"""One file per figure: a function from the evidence to drawings, each with the data it shows."""

from __future__ import annotations

from benchmark.report.figures.figure import (
    FIGURES,
    Drawing,
    Evidence,
    Figure,
    Group,
    NothingToDraw,
    draw,
    drawings,
    write,
)
from benchmark.report.figures.style import to_svg

__all__ = ["FIGURES", "Drawing", "Evidence", "Figure", "Group", "NothingToDraw", "draw", "drawings", "to_svg", "write"]
