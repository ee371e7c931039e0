"""Writes one embedded image data set (sheet, index, checksums, sources) and its contact sheets."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]

SIDE = 32
COLUMNS = 128
SPLITS = ("train", "val", "test")
ASSET_FILES = ("emoji.json", "emoji.webp", "glyphs.json", "glyphs.webp")
SECTION_TITLES = ("glyphs", "emoji")


@dataclass(frozen=True)
class AssetClass:
    """One class of the data set.

    Attributes:
        name: the class name.
        superclass: name of the coarser class that contains it.
        split: ``train``, ``val`` or ``test``.
    """

    name: str
    superclass: str
    split: str


@dataclass(frozen=True)
class AssetImage:
    """One tile.

    Attributes:
        pixels: uint8, SIDE x SIDE x C.
        label: index of the class.
        group: id shared by near-duplicates.
        source: designer or typeface.
    """

    pixels: Pixels
    label: int
    group: str
    source: str


def quantise(pixels: Pixels, levels: int) -> Pixels:
    """Round pixels to ``levels`` evenly spaced values; 0 and 255 stay exact."""
    steps = np.rint(pixels.astype(np.float64) * (levels - 1) / 255.0)
    return np.rint(steps * 255.0 / (levels - 1)).astype(np.uint8)


def tile_sheet(tiles: Pixels, columns: int, gap: int = 0) -> Pixels:
    """Place N x H x W x C tiles in rows of ``columns`` on white, ``gap`` pixels apart."""
    count, height, width, channels = tiles.shape
    rows = max(1, math.ceil(count / columns))
    sheet = np.full((rows * (height + gap), columns * (width + gap), channels), 255, dtype=np.uint8)
    for index, tile in enumerate(tiles):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def save_contact_sheet(path: Path, tiles: Pixels, columns: int, scale: int = 1) -> None:
    """Save tiles as one PNG, ``scale`` times enlarged."""
    sheet = tile_sheet(tiles, columns, gap=2)
    if sheet.shape[2] == 1:
        sheet = np.repeat(sheet, 3, axis=2)
    image = Image.fromarray(sheet)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST).save(path)


def write_asset(folder: Path, name: str, classes: Sequence[AssetClass], images: Iterable[AssetImage]) -> Pixels:
    """Write ``NAME.webp`` and ``NAME.json``, sorted by class, source and group, and return the sorted tiles."""
    ordered = sorted(images, key=lambda image: (image.label, image.source, image.group, image.pixels.tobytes()))
    tiles = np.stack([image.pixels for image in ordered])
    sources = sorted({image.source for image in ordered})
    source_index = {source: index for index, source in enumerate(sources)}
    groups: dict[str, int] = {}
    index = {
        "name": name,
        "version": 1,
        "image_size": SIDE,
        "channels": tiles.shape[3],
        "count": len(tiles),
        "columns": COLUMNS,
        "pixels_sha256": hashlib.sha256(np.ascontiguousarray(tiles).tobytes()).hexdigest(),
        "classes": [{"name": item.name, "superclass": item.superclass} for item in classes],
        "splits": {split: [i for i, item in enumerate(classes) if item.split == split] for split in SPLITS},
        "labels": [image.label for image in ordered],
        "groups": [groups.setdefault(image.group, len(groups)) for image in ordered],
        "sources": sources,
        "source": [source_index[image.source] for image in ordered],
    }
    sheet = tile_sheet(tiles, COLUMNS)
    if sheet.shape[2] == 1:
        sheet = np.repeat(sheet, 3, axis=2)
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(folder / f"{name}.webp", lossless=True, quality=100, method=6, exact=True)
    text = json.dumps(index, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    return tiles


def write_checksums(folder: Path) -> None:
    """Write ``SHA256SUMS`` for the asset files that exist."""
    present = [name for name in ASSET_FILES if (folder / name).exists()]
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in present]
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def write_sources_section(folder: Path, title: str, body: str) -> None:
    """Replace the section ``title`` of ``SOURCES.md``. The other data set's section stays unchanged."""
    path = folder / "SOURCES.md"
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    existing = re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", old, flags=re.MULTILINE | re.DOTALL)
    sections: dict[str, str] = {key: text.strip() for key, text in existing} | {title: body.strip()}
    parts = ["# Sources and licences of the embedded images"]
    parts += [f"## {key}\n\n{sections[key]}" for key in SECTION_TITLES if key in sections]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
