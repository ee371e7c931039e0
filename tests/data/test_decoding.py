"""Pixels of other people's images become 8 bits by one rule, or the image is refused by name."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from benchmark.data.decoding import FORMATS, decode, image_endings
from benchmark.data.image_format import ImageFormat
from benchmark.errors import InputError

RAMP = np.tile(np.linspace(0, 65535, 16).round().astype(np.uint16), (16, 1))
GREY = np.tile(np.linspace(0, 255, 16).round().astype(int), (16, 1))


def saved(image: Any, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_samples_of_16_bits_are_scaled(form: str) -> None:
    for channels in (1, 3):
        pixels = decode(saved(Image.fromarray(RAMP), form), ImageFormat(16, channels))
        assert np.abs(pixels.astype(int) - GREY[..., None]).max() <= 1


def test_tiff_of_16_bits_is_read_in_both_byte_orders_and_polarities() -> None:
    big = Image.frombytes("I;16B", (16, 16), RAMP.astype(">u2").tobytes())
    assert np.abs(decode(saved(big, "TIFF"), ImageFormat(16, 1))[..., 0].astype(int) - GREY).max() <= 1
    white_is_zero = saved(Image.fromarray(65535 - RAMP), "TIFF", tiffinfo={262: 0})
    assert np.abs(decode(white_is_zero, ImageFormat(16, 1))[..., 0].astype(int) - GREY).max() <= 1
    dark = np.full((8, 8), 200, np.uint16)  # all of it is dark, and stays so
    assert decode(saved(Image.fromarray(dark), "PNG"), ImageFormat(8, 1)).max() <= 1


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(0, 1, 64, dtype=np.float32),
        np.arange(64, dtype=np.int32) - 5,
        np.arange(64, dtype=np.int32) * 1000_000,
        np.arange(64, dtype=np.int32),
    ],
    ids=["float", "negative", "large", "of unknown range"],
)
def test_samples_without_a_known_range_are_refused_by_name(tmp_path: Path, values: Any) -> None:
    Image.fromarray(values.reshape(8, 8)).save(tmp_path / "x.tif")
    with pytest.raises(InputError, match=r"x\.tif does not decode \(its samples .* save it with 8 or 16 bits"):
        decode(tmp_path / "x.tif", ImageFormat(8))


def test_pixels_of_another_type_are_refused() -> None:
    for kind in (np.float32, np.int16, np.bool_):
        with pytest.raises(InputError, match=f"number 3 does not decode .*pixels are {np.dtype(kind)}, not uint8"):
            decode(np.zeros((8, 8, 3), kind), ImageFormat(8), name="number 3")  # type: ignore[arg-type]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_photographs_are_turned_upright(form: str, orientation: int) -> None:
    """The stored pixels are turned as a camera does; a viewer shows a bright top and a dark left corner in it."""
    upright = np.zeros((16, 16, 3), np.uint8)
    upright[:8] = 255
    upright[:4, :4] = 0
    turn = {
        1: lambda x: x, 2: lambda x: x[:, ::-1], 3: lambda x: x[::-1, ::-1], 4: lambda x: x[::-1],
        5: lambda x: x.transpose(1, 0, 2), 6: lambda x: np.rot90(x, 1), 7: lambda x: np.rot90(x.transpose(1, 0, 2), 2),
        8: lambda x: np.rot90(x, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[274] = orientation
    options = {"exif": exif, **({"quality": 100} if form in ("JPEG", "WEBP") else {})}
    stored = Image.fromarray(np.ascontiguousarray(turn(upright)))
    pixels = decode(saved(stored, form, **options), ImageFormat(16, upright=True))
    assert np.abs(pixels.astype(int) - upright).mean() < 12
    if form != "TIFF":  # Pillow turns these itself
        kept = decode(saved(stored, form, **options), ImageFormat(16))
        assert np.abs(kept.astype(int) - np.asarray(stored)).mean() < 12


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA"])
def test_transparent_pixels_are_laid_on_white(mode: str) -> None:
    """The colour below a transparent pixel is black here, as drawing programs leave it."""
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:4] = 255
    pixels[:4, :, :3] = 100
    image = Image.fromarray(pixels).convert("RGBA")
    if mode in ("P", "PA"):
        image = image.quantize(4)
    elif mode == "LA":
        image = image.convert("LA")
    decoded = decode(saved(image, "PNG"), ImageFormat(8))
    assert np.abs(decoded[:4].astype(int) - 100).max() <= 2
    assert (decoded[4:] == 255).all()


def test_palettes_and_cmyk_become_rgb() -> None:
    red = Image.new("RGB", (8, 8), (250, 10, 10))
    for image, form in ((red.quantize(2), "GIF"), (red.quantize(2), "PNG"), (red.convert("CMYK"), "TIFF")):
        assert np.abs(decode(saved(image, form), ImageFormat(8)).astype(int) - [250, 10, 10]).max() <= 4
    cmyk = saved(red.convert("CMYK"), "JPEG", quality=100)
    assert np.abs(decode(cmyk, ImageFormat(8)).astype(int) - [250, 10, 10]).max() <= 8


def test_no_decoder_starts_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for Ghostscript on PATH would leave a file."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch '{tmp_path}/STARTED'\nexit 1\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "x.png").write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 24 24\n%%EndComments\nshowpage\n%%EOF\n"
    )
    with pytest.raises(InputError, match=r"x\.png does not decode \(it is no image of a format that is read\)"):
        decode(tmp_path / "x.png", ImageFormat(8))
    assert not (tmp_path / "STARTED").exists()
    assert not {"EPS", "PDF", "WMF", "HDF5", "FITS", "GRIB", "BUFR", "MPEG"} & set(FORMATS)


def test_endings_are_those_that_pillow_decodes() -> None:
    assert {".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".bmp", ".gif", ".webp", ".tif", ".ppm"} <= image_endings()
    assert (".avif" in image_endings()) == features.check("avif")
    assert not {".eps", ".ps", ".pdf", ".wmf", ".h5", ".txt", ""} & image_endings()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs on this system")
def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(InputError, match=r"x\.png does not decode .*no plain file"):
        decode(tmp_path / "x.png", ImageFormat(8))
