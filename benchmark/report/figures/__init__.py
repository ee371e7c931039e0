"""Figures, one per module: each is a function from results to drawings with their data."""

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
