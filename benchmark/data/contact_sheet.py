"""A picture of an image set: one row per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmark.data.image_set import ImageSet
from benchmark.errors import InputError


def draw_contact_sheet(data: ImageSet, out: Path, *, columns: int = 24) -> None:
    """Write a PNG with a row per class: its split and name, then up to ``columns`` images spread over the class."""
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
        images = data.where([c])
        for column, i in enumerate(images[np.linspace(0, len(images) - 1, min(columns, len(images))).astype(int)]):
            pixels = np.broadcast_to(data.images[i], (height, width, 3))
            sheet.paste(Image.fromarray(np.ascontiguousarray(pixels)), (label + column * (width + margin), top))
    try:
        sheet.save(out, format="PNG")
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror or error}") from None
