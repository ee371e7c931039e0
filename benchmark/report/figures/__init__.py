"""One file per figure: a function from the results to drawings, each with the data it shows."""

from __future__ import annotations

from benchmark.report.figures.figure import (
    FIGURES,
    Figure,
    FigureGroup,
    NothingToDraw,
    RenderedFigure,
    ResultSet,
    draw,
    drawings,
    write,
)
from benchmark.report.figures.style import to_png, to_svg

__all__ = [
    "FIGURES",
    "Figure",
    "FigureGroup",
    "NothingToDraw",
    "RenderedFigure",
    "ResultSet",
    "draw",
    "drawings",
    "to_png",
    "to_svg",
    "write",
]
