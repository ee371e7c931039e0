"""The embedded image sets: one lossless WebP sheet and one JSON index each, verified against SHA256SUMS."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmark.data.image_set import ImageSet
from benchmark.errors import InputError

FOLDER = Path(__file__).parent


def load_asset(name: str, *, flip_invariant: bool, folder: Path = FOLDER) -> ImageSet:
    """Load an embedded image set.

    Args:
        name: the set's name.
        flip_invariant: True if a mirrored image still belongs to its class.
        folder: the folder of sheet, index and checksums.

    Raises:
        InputError: a file is missing or differs from its checksum.
    """
    sheet, index = _verified(folder, f"{name}.webp"), json.loads(_verified(folder, f"{name}.json"))
    images = _tiles(sheet, index)
    if hashlib.sha256(images.tobytes()).hexdigest() != index["pixels_sha256"]:
        raise InputError(
            f"data set {name}: this Pillow decodes {name}.webp to other pixels than those recorded; update Pillow"
        )
    return ImageSet(
        name=name,
        images=images,
        labels=np.asarray(index["labels"], np.int64),
        groups=np.asarray(index["groups"], np.int64),
        classes=tuple(entry["name"] for entry in index["classes"]),
        splits={split: tuple(index["splits"][split]) for split in ("train", "val", "test")},
        background=255,
        flip_invariant=flip_invariant,
    )


def _verified(folder: Path, filename: str) -> bytes:
    remedy = "reinstall the package or restore the file from the repository"
    try:
        lines = [line.split() for line in (folder / "SHA256SUMS").read_text().splitlines()]
        sums = {recorded: checksum for checksum, recorded in lines}
        content = (folder / filename).read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(f"embedded data file {filename} cannot be read ({error}); {remedy}") from None
    if hashlib.sha256(content).hexdigest() != sums.get(filename):
        raise InputError(
            f"embedded data file {folder / filename} is damaged: its checksum is not the recorded one; {remedy}"
        )
    return content


def _tiles(sheet: bytes, index: dict[str, Any]) -> npt.NDArray[np.uint8]:
    from PIL import Image

    size, columns, count = index["image_size"], index["columns"], index["count"]
    with Image.open(io.BytesIO(sheet)) as opened:
        pixels = np.asarray(opened.convert("RGB"))[..., : index["channels"]]
    rows = pixels.shape[0] // size
    tiles = pixels.reshape(rows, size, columns, size, -1).swapaxes(1, 2).reshape(rows * columns, size, size, -1)
    return np.ascontiguousarray(tiles[:count])
