"""The format to which an import brings the images of a set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Resize = Literal["squash", "centre", "cover"]


@dataclass(frozen=True)
class ImageFormat:
    """The format of stored images. Other sizes are resized with Lanczos filtering; images of this size stay unchanged.

    Attributes:
        size: side of the square image in pixels.
        channels: 1 (grey) or 3 (RGB).
        resize: how other shapes become square. ``squash`` changes the aspect ratio. ``centre`` scales the shorter side
            to 8/7 of ``size`` (as 256 to 224) and crops the centre. ``cover`` scales it to ``size`` and crops the
            centre.
        upright: turn photographs as their EXIF orientation says. Of published sets the stored pixels count, for which
            their boxes are given.
    """

    size: int
    channels: int = 3
    resize: Resize = "squash"
    upright: bool = False
