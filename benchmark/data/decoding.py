"""Decode images of other people to 8-bit pixels of one size, by one rule for every kind of sample."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmark.data.image_format import ImageFormat
from benchmark.errors import InputError
from benchmark.system.files import open_plain

RawImage = Path | bytes | npt.NDArray[np.uint8]
"""An image file, an encoded image, or pixels H x W x C."""

FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "SGI", "TGA", "TIFF", "WEBP",
)  # fmt: skip
"""The formats that are read, where Pillow can: none of their decoders starts another program."""


@functools.cache
def _formats() -> tuple[str, ...]:
    from PIL import Image

    Image.init()
    return tuple(form for form in FORMATS if form in Image.OPEN)


@functools.cache
def image_endings() -> frozenset[str]:
    """Return the endings of the files that this installation of Pillow decodes, such as ``.jpg``."""
    from PIL import Image

    formats = (*_formats(), "MPO")  # JPEG with several frames, which the decoder of JPEG reads
    return frozenset(end for end, form in Image.registered_extensions().items() if form in formats)


class Undecodable(InputError):
    """An image that does not decode.

    Attributes:
        source: the file, or the image's place in its source.
        reason: why it does not decode.
    """

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"image {source} does not decode ({reason}); replace or remove it, then repeat the command")
        self.source = source
        self.reason = reason


def decode(
    raw: RawImage, image_format: ImageFormat, box: npt.NDArray[np.float64] | None = None, name: str = ""
) -> npt.NDArray[np.uint8]:
    """Decode one image.

    Samples of 16 bits are scaled to 8. Transparent pixels are laid on white. Palettes and CMYK become RGB without a
    colour profile. Of several frames the first is taken. Samples without a known range, such as floats, are refused.

    Args:
        raw: an image file, an encoded image, or pixels H x W x C.
        image_format: format of the result.
        box: left, top, right and bottom of the part to keep, in pixels; None keeps all.
        name: name of an image without a file, for the message.

    Returns:
        uint8 pixels, size x size x channels.

    Raises:
        Undecodable: the image does not decode, or its samples have no known range.
    """
    shape = (image_format.size, image_format.size, image_format.channels)
    try:
        if isinstance(raw, np.ndarray) and raw.dtype != np.uint8:
            raise ValueError(f"its pixels are {raw.dtype}, not uint8")
        if isinstance(raw, np.ndarray) and raw.shape == shape and box is None:
            return raw
        image = _open(raw, image_format)
        if box is not None:
            image = _cropped(image, box)
        return np.asarray(_resized(image, image_format)).reshape(shape)
    except Exception as error:  # every decoder has its own errors
        reason = str(error).split("\n", 1)[0] or type(error).__name__
        raise Undecodable(f"file {raw}" if isinstance(raw, Path) else name, reason) from None


def _open(raw: RawImage, image_format: ImageFormat) -> Any:
    """Return the image with 8 bits a sample, as RGB or grey, upright if the format asks for that."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    mode = "RGB" if image_format.channels == 3 else "L"
    if isinstance(raw, np.ndarray):
        return Image.fromarray(raw.squeeze()).convert(mode)
    with io.BytesIO(raw) if isinstance(raw, bytes) else open_plain(raw) as file:
        try:
            opened = Image.open(file, formats=_formats())
        except UnidentifiedImageError:
            raise ValueError("it is no image of a format that is read") from None
        with opened:
            upright = ImageOps.exif_transpose(opened) if image_format.upright else opened
            image = _in_eight_bits(upright, opened)
            if image.has_transparency_data:
                ground = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(ground, image.convert("RGBA"))
            return image.convert(mode)


def _in_eight_bits(image: Any, opened: Any) -> Any:
    """Scale samples of 16 bits to 8; other images are returned as they are. ``opened`` tells format and tags."""
    from PIL import Image

    if image.mode == "F":
        raise ValueError("its samples are floats, which have no known range; save it with 8 or 16 bits a sample")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64)
    tags = opened.tag_v2 if opened.format == "TIFF" else {}
    bits = tags.get(258, (16,))[0]
    white = 2**bits - 1 if 8 < bits < 16 else 65535
    # 32-bit integers may have any range; only PNG and PPM say that theirs is of 16 bits
    unknown = image.mode == "I" and opened.format not in ("PNG", "PPM") and values.max() <= 255
    if values.min() < 0 or values.max() > white or unknown:
        raise ValueError(
            f"its samples lie from {values.min()} to {values.max()}, which is no known range; save it with 8 or 16 "
            "bits a sample"
        )
    scaled = ((values * 255 + white // 2) // white).astype(np.uint8)
    return Image.fromarray(255 - scaled if tags.get(262) == 0 else scaled)


def _cropped(image: Any, box: npt.NDArray[np.float64]) -> Any:
    left, top, right, bottom = (round(float(edge)) for edge in box)
    slack = max(1, max(image.size) // 10)
    width, height = image.size
    outside = left < -slack or top < -slack or right > width + slack or bottom > height + slack
    left, top, right, bottom = max(0, left), max(0, top), min(width, right), min(height, bottom)
    if outside or right <= left or bottom <= top:
        raise ValueError(f"the bounding box {box.tolist()} lies outside its {width} x {height} pixels")
    return image.crop((left, top, right, bottom))


def _resized(image: Any, image_format: ImageFormat) -> Any:
    from PIL import Image

    if image.size == (image_format.size, image_format.size):
        return image
    if image_format.resize == "squash":
        return image.resize((image_format.size, image_format.size), Image.Resampling.LANCZOS)
    side = round(image_format.size * 8 / 7) if image_format.resize == "centre" else image_format.size
    scale = side / min(image.size)
    width, height = (max(side, round(length * scale)) for length in image.size)
    left, top = (width - image_format.size) // 2, (height - image_format.size) // 2
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    return image.crop((left, top, left + image_format.size, top + image_format.size))
