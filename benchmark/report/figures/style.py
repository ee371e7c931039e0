"""Style of figures: print sizes, text, axes, and reproducible files."""

from __future__ import annotations

import functools
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
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from matplotlib.textpath import text_to_path
from matplotlib.transforms import Affine2D, Transform

from benchmark.report.figures.method_styles import look as look
from benchmark.system.escaping import visible

SINGLE, DOUBLE = 85.0, 175.0
"""Widths of one and of two columns of a paper, in mm."""

INK, GREY, PALE = "#222222", "#6E6E6E", "#D4D4D4"
SMALL, LEADING = 6.5, 1.1
"""Size in points of remarks and of text in dense panels, and its line spacing in units of the size."""

_FONT = "DejaVu Sans"
"""This font comes with matplotlib, so figures are the same on every machine."""

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
    "text.parse_math": False,
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
    """Darken a colour until its contrast with white is 4.5, the minimum of WCAG for small text."""
    red, green, blue = to_rgb(color)
    while 1.05 / (_luminance(red, green, blue) + 0.05) < 4.5:
        red, green, blue = 0.95 * red, 0.95 * green, 0.95 * blue
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def _luminance(*channels: float) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@contextmanager
def styled() -> Iterator[None]:
    """Apply the style of figures within the context, independent of the user's matplotlib settings."""
    with matplotlib.style.context(["default", dict(_RC)]):
        yield


def canvas(width: float, height: float, title: str = "") -> Figure:
    """Make an empty figure with its title in small grey text along the upper edge.

    A long title is broken into lines, and each further line increases the figure's height.

    Args:
        width: Width in mm.
        height: Height in mm with a title of one line.
        title: The title.
    """
    lines = _wrapped(title, width * 72 / 25.4 - 8)
    figure = Figure(figsize=(width / 25.4, height / 25.4 + LEADING * SMALL / 72 * (len(lines) - 1)))
    FigureCanvasAgg(figure)
    figure.text(
        4, 72 * float(figure.get_figheight()) - 4, "\n".join(lines), transform=points(figure), size=SMALL, color=GREY,
        va="top", linespacing=LEADING,
    )  # fmt: skip
    return figure


def axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Add axes to a figure. The position and size of their frame are in mm."""
    figure_width, figure_height = (25.4 * float(x) for x in figure.get_size_inches())
    return figure.add_axes((left / figure_width, bottom / figure_height, width / figure_width, height / figure_height))


def picture_frame(frame: Axes, title: str, method: str | None) -> None:
    """Frame axes that hold a picture: no ticks, a pale border, and a title in the colour of the method.

    Args:
        frame: The axes.
        title: The title; the settings in brackets stand on a line of their own.
        method: The method; None for what is none, in ink.
    """
    frame.set_xticks([])
    frame.set_yticks([])
    for spine in frame.spines.values():
        spine.set_visible(True)
        spine.set_color(PALE)
    color = INK if method is None else legible(look(method).color)
    frame.set_title(title.replace(" (", "\n("), loc="left", pad=2.5, color=color)


def points(figure: Figure) -> Transform:
    """Return the transform from points, measured from the figure's lower left corner, to display coordinates."""
    return Affine2D().scale(1 / 72) + figure.dpi_scale_trans


def footnote(figure: Figure, *remarks: str) -> None:
    """Write the non-empty remarks in small grey text along the figure's lower edge, broken into lines."""
    lines = _wrapped("; ".join(filter(None, remarks)), 72 * float(figure.get_figwidth()) - 8)
    figure.text(
        4, 3, "\n".join(lines), transform=points(figure), size=SMALL, color=GREY, va="bottom", linespacing=LEADING
    )


def _wrapped(text: str, room: float) -> list[str]:
    """Break small text into lines of at most ``room`` points, between words and before the "+" of settings."""
    lines: list[str] = []
    for piece in re.split(r"(?<= )|(?=\+)", text):
        if lines and text_width((lines[-1] + piece).rstrip(), SMALL) <= room:
            lines[-1] += piece
        else:
            lines.append(piece)
    return [line.rstrip() for line in lines]


def drawable(text: str) -> str:
    """Return text on one line, in which characters that the font lacks or that would be obeyed are their escapes."""
    return "".join(
        sign if _font().get_char_index(ord(sign)) else sign.encode("unicode_escape").decode() for sign in visible(text)
    )


@functools.cache
def _font() -> FT2Font:
    return get_font(findfont(FontProperties(family=_FONT)))


def text_width(text: str, size: float) -> float:
    """Return the width of a line of text in points."""
    width, _, _ = text_to_path.get_text_width_height_descent(
        text, FontProperties(family=_FONT, size=size), ismath=False
    )
    return float(width)


def to_pdf(figure: Figure) -> bytes:
    """Return the figure as PDF with embedded fonts and without a date."""
    return _encode(figure, "pdf", {"CreationDate": None, "Creator": None, "Producer": None})


def to_png(figure: Figure, dpi: int = 300) -> bytes:
    """Return the figure as PNG."""
    return _encode(figure, "png", {"Software": None}, dpi)


def to_svg(figure: Figure) -> str:
    """Return the figure as an ``<svg>`` element. Text is drawn as outlines, so it does not depend on fonts."""
    text = _encode(figure, "svg", {"Date": None, "Creator": None}).decode()
    return text[text.index("<svg") :]


def _encode(figure: Figure, kind: str, metadata: dict[str, None], dpi: int = 300) -> bytes:
    buffer = io.BytesIO()
    with styled():
        for text in figure.findobj(Text):
            text.set_text("\n".join(map(drawable, text.get_text().split("\n"))))
        figure.savefig(buffer, format=kind, metadata=metadata, dpi=dpi)
    return buffer.getvalue()
