"""One picture of a whole image set: a row for each class."""

from __future__ import annotations

import unicodedata
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.data.image_set import ImageSet
from benchmark.errors import InputError, os_reason

_LINE = 15
"""Height of a line of text in pixels."""


def drawable(text: str, letters: Container[int]) -> str:
    """Return a text with ``U+4E2D`` in place of each letter that a font lacks, and of control and direction marks.

    Args:
        text: the text.
        letters: code points that the font has.
    """
    composed = unicodedata.normalize("NFC", text)
    return "".join(c if ord(c) in letters and c.isprintable() else f"[U+{ord(c):04X}]" for c in composed)


def _font() -> tuple[Any, Container[int]]:
    """Return matplotlib's DejaVu Sans, which has Latin, Greek, Cyrillic and more, and its code points."""
    import matplotlib
    from matplotlib.ft2font import FT2Font
    from PIL import ImageFont

    path = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(path, size=12), FT2Font(str(path)).get_charmap()


def draw_contact_sheet(data: ImageSet, out: Path, *, columns: int = 24) -> None:
    """Write a PNG with a row for each class: its split, its name and images spread evenly over the class.

    A letter that the font lacks is written as its code point, such as ``[U+4E2D]``.

    Args:
        data: the image set.
        out: the PNG file to write.
        columns: largest number of images of a class.

    Raises:
        InputError: the file cannot be written.
    """
    from PIL import Image, ImageDraw

    height, width = data.images.shape[1:3]
    margin = 2
    split_of = {c: split for split, classes in data.splits.items() for c in classes}
    order = [c for classes in data.splits.values() for c in classes]
    font, letters = _font()
    names = {c: f"{split_of[c]}  {drawable(data.classes[c], letters)}" for c in order}
    label = max(230, min(900, round(max(map(font.getlength, names.values()), default=0)) + 10))
    pitch = max(height, _LINE) + margin
    sheet = Image.new("RGB", (label + columns * (width + margin), len(order) * pitch), "white")
    draw = ImageDraw.Draw(sheet)
    for row, c in enumerate(order):
        top = row * pitch
        draw.text((4, top + (pitch - margin) // 2), names[c], fill="black", font=font, anchor="lm")
        images = data.indices_of([c])
        for column, i in enumerate(images[np.linspace(0, len(images) - 1, min(columns, len(images))).astype(int)]):
            pixels = np.broadcast_to(data.images[i], (height, width, 3))
            sheet.paste(Image.fromarray(np.ascontiguousarray(pixels)), (label + column * (width + margin), top))
    try:
        sheet.save(out, format="PNG")
    except OSError as error:
        raise InputError(f"cannot write {out}: {os_reason(error)}") from None
