"""One picture of a whole image set: a row for each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmark.data.image_set import ImageSet
from benchmark.errors import InputError, os_reason


def draw_contact_sheet(data: ImageSet, out: Path, *, columns: int = 24) -> None:
    """Write a PNG with a row for each class: its split, its name and images spread evenly over the class.

    Args:
        data: the image set.
        out: the PNG file to write.
        columns: largest number of images of a class.

    Raises:
        InputError: the file cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    height, width = data.images.shape[1:3]
    margin, label = 2, 230
    split_of = {c: split for split, classes in data.splits.items() for c in classes}
    order = [c for classes in data.splits.values() for c in classes]
    sheet = Image.new("RGB", (label + columns * (width + margin), len(order) * (height + margin)), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=12)
    for row, c in enumerate(order):
        top = row * (height + margin)
        draw.text((4, top + height // 2 - 8), f"{split_of[c]}  {data.classes[c]}", fill="black", font=font)
        images = data.indices_of([c])
        for column, i in enumerate(images[np.linspace(0, len(images) - 1, min(columns, len(images))).astype(int)]):
            pixels = np.broadcast_to(data.images[i], (height, width, 3))
            sheet.paste(Image.fromarray(np.ascontiguousarray(pixels)), (label + column * (width + margin), top))
    try:
        sheet.save(out, format="PNG")
    except OSError as error:
        raise InputError(f"cannot write {out}: {os_reason(error)}") from None
