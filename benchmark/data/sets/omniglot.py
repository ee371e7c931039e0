"""Omniglot: handwritten characters of 50 alphabets, each drawn by 20 people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Le

from benchmark.data.download import Download
from benchmark.data.published import Published, Resized
from benchmark.data.sets import DATASETS

if TYPE_CHECKING:
    from benchmark.data.class_splits import ClassSplit
    from benchmark.data.importing import ImageList
    from benchmark.data.memory_map import Index

PARTS = ("images_background", "images_evaluation")
PER_CLASS = 20
TURNS = 4
_URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"


@dataclass(frozen=True)
class Settings(Resized):
    """28 pixels are usual in few-shot learning; the drawings have 105.

    ``rotations``: a character turned by 90, 180 and 270 degrees is three further classes, on the side of the first, as
    Snell et al. (NeurIPS 2017, arXiv 1703.05175) and most papers since have it.
    """

    size: Annotated[int, Ge(8), Le(1024)] = 28
    rotations: bool = False


def read(folder: Path, settings: Any) -> ImageList:
    """All drawings of both parts, by alphabet and character."""
    import numpy as np

    from benchmark.data.importing import Form, ImageList, expect_per_class
    from benchmark.errors import InputError

    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise InputError(f"{folder} holds no folder {missing[0]}; unpack {missing[0]}.zip there")
    found: dict[str, list[Path]] = {}
    for part in PARTS:
        for path in sorted((folder / part).glob("*/*/*.png")):
            found.setdefault(f"{path.parent.parent.name}/{path.parent.name}", []).append(path)
    files = [path for paths in found.values() for path in paths]
    labels = np.repeat(np.arange(len(found)), [len(paths) for paths in found.values()])
    form = Form(settings.size, channels=1, resize=settings.resize)
    turns = range(TURNS if settings.rotations else 1)
    listing = ImageList(
        files * len(turns),
        np.concatenate([labels + turn * len(found) for turn in turns]),
        tuple(_turned(name, turn) for turn in turns for name in found),
        form,
        turns=np.repeat(turns, len(files)),
    )
    return expect_per_class(listing, PER_CLASS, folder)


def _turned(name: str, turn: int) -> str:
    return f"{name}/turned {90 * turn}" if turn else name


def split(index: Index) -> ClassSplit:
    """1,028, 172 and 423 characters, as Vinyals et al. (NeurIPS 2016, arXiv 1606.04080), with their rotations."""
    from benchmark.data.class_splits import ClassSplit, load_class_split

    drawn = load_class_split("omniglot-vinyals")
    if not index.settings.get("rotations", False):
        return drawn
    parts = {
        part: tuple(_turned(name, turn) for turn in range(TURNS) for name in names)
        for part, names in drawn.classes.items()
    }
    return ClassSplit("omniglot-vinyals-rotations", parts)


OMNIGLOT = Published(
    name="omniglot",
    about="Omniglot: 32,460 drawings of 1,623 characters, 28 x 28 grey; 1,028 / 172 / 423 as Vinyals et al. 2016.",
    Settings=Settings,
    path="the folder that images_background and images_evaluation, or their zip files, are in",
    holds=PARTS,
    read=read,
    split=split,
    background=255,
    flip_invariant=False,
    downloads=(
        Download(f"{_URL}/images_background.zip", "images_background.zip", "68d2efa1b9178cc56df9314c21c6e718"),
        Download(f"{_URL}/images_evaluation.zip", "images_evaluation.zip", "6b91aef0f799c5bb55b94e3f2daec811"),
    ),
    steps=(
        "Get images_background.zip and images_evaluation.zip from https://github.com/brendenlake/omniglot (python/).",
        "python -m benchmark data import omniglot --from FOLDER, FOLDER being where both are",
    ),
)
DATASETS.register("omniglot")(OMNIGLOT)
