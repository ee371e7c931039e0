"""How figures look: print sizes, text, axes, and files that are the same bytes every time."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.transforms import Affine2D, Transform

from benchmark.report.figures.method_styles import look as look

SINGLE, DOUBLE = 85.0, 175.0
"""Widths of one and of two columns of a paper, in mm."""

INK, GREY, PALE = "#222222", "#6E6E6E", "#D4D4D4"
SMALL, LEADING = 6.5, 1.1
"""Points of remarks and of what stands within dense panels, where everything else is larger; lines of it, in sizes."""

_FONT = "DejaVu Sans"
"""It comes with matplotlib, so figures look alike on every machine."""

_RC: Mapping[str, Any] = {
    "figure.dpi": 300,
    "savefig.dpi": 300,
    "font.family": _FONT,
    "font.size": 7.5,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "lines.linewidth": 0.9,
    "lines.markersize": 4,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "benchmark",
}


def legible(color: str) -> str:
    """The colour, darkened until small text in it stands out from white: a contrast of 4.5, as WCAG asks for."""
    red, green, blue = to_rgb(color)
    while 1.05 / (_luminance(red, green, blue) + 0.05) < 4.5:
        red, green, blue = 0.95 * red, 0.95 * green, 0.95 * blue
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def _luminance(*channels: float) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@contextmanager
def styled() -> Iterator[None]:
    """Matplotlib as figures want it, whatever a user's own settings are."""
    with matplotlib.style.context(["default", dict(_RC)]):
        yield


def canvas(width: float, height: float, title: str = "") -> Figure:
    """An empty figure of so many mm; along its upper edge, in small grey text, the title: what was measured.

    A title too long for a line is broken, and the figure higher by the further lines.
    """
    lines = _broken(title, width * 72 / 25.4 - 8)
    figure = Figure(figsize=(width / 25.4, height / 25.4 + LEADING * SMALL / 72 * (len(lines) - 1)))
    FigureCanvasAgg(figure)
    figure.text(
        4, 72 * float(figure.get_figheight()) - 4, "\n".join(lines), transform=points(figure), size=SMALL, color=GREY,
        va="top", linespacing=LEADING,
    )  # fmt: skip
    return figure


def axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes whose frame stands at (left, bottom) and has such a size, in mm of the figure."""
    wide, high = (25.4 * float(x) for x in figure.get_size_inches())
    return figure.add_axes((left / wide, bottom / high, width / wide, height / high))


def points(figure: Figure) -> Transform:
    """From points, counted from the figure's lower left corner, to where they are drawn."""
    return Affine2D().scale(1 / 72) + figure.dpi_scale_trans


def footnote(figure: Figure, *remarks: str) -> None:
    """Small grey text along the figure's lower edge: the remarks that are not empty, broken into lines to fit."""
    lines = _broken("; ".join(filter(None, remarks)), 72 * float(figure.get_figwidth()) - 8)
    figure.text(
        4, 3, "\n".join(lines), transform=points(figure), size=SMALL, color=GREY, va="bottom", linespacing=LEADING
    )


def _broken(text: str, room: float) -> list[str]:
    """Small text in lines of at most so many points, broken between words and before a "+", as settings have them."""
    lines: list[str] = []
    for piece in re.split(r"(?<= )|(?=\+)", text):
        if lines and text_width((lines[-1] + piece).rstrip(), SMALL) <= room:
            lines[-1] += piece
        else:
            lines.append(piece)
    return [line.rstrip() for line in lines]


def text_width(text: str, size: float) -> float:
    """Of a line of text of that size, in points."""
    width, _, _ = text_to_path.get_text_width_height_descent(
        text, FontProperties(family=_FONT, size=size), ismath=False
    )
    return float(width)


def to_pdf(figure: Figure) -> bytes:
    """The figure as PDF with its fonts embedded, without a date."""
    return _encode(figure, "pdf", {"CreationDate": None, "Creator": None, "Producer": None})


def to_png(figure: Figure, dpi: int = 300) -> bytes:
    """Return the figure as PNG with so many dots per inch."""
    return _encode(figure, "png", {"Software": None}, dpi)


def to_svg(figure: Figure) -> str:
    """The figure as an ``<svg>`` element, text drawn as outlines, so that it looks alike everywhere."""
    text = _encode(figure, "svg", {"Date": None, "Creator": None}).decode()
    return text[text.index("<svg") :]


def _encode(figure: Figure, kind: str, metadata: dict[str, None], dpi: int = 300) -> bytes:
    buffer = io.BytesIO()
    with styled():
        figure.savefig(buffer, format=kind, metadata=metadata, dpi=dpi)
    return buffer.getvalue()
