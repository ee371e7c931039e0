"""Omniglot: handwritten characters of 50 alphabets, each drawn by 20 people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Le

from benchmark.data.download import Download
from benchmark.data.published import PublishedDataset, ResizeSettings
from benchmark.data.sets import DATASETS

if TYPE_CHECKING:
    from benchmark.data.class_splits import ClassSplit
    from benchmark.data.importing import ImageList
    from benchmark.data.memory_map import MapIndex

PARTS = ("images_background", "images_evaluation")
PER_CLASS = 20
QUARTER_TURNS = 4
_URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"


@dataclass(frozen=True)
class Settings(ResizeSettings):
    """Import settings of Omniglot.

    Attributes:
        size: side of the stored images in pixels. Few-shot papers use 28; the drawings have 105.
        rotations: add three classes for each character, rotated by 90, 180 and 270 degrees. They stay in the split of
            their character, as in Snell et al. (NeurIPS 2017, arXiv 1703.05175) and most later papers.
    """

    size: Annotated[int, Ge(8), Le(1024)] = 28
    rotations: bool = False


def read(folder: Path, settings: Any) -> ImageList:
    """Read all drawings of both parts. A class is a character of an alphabet.

    Args:
        folder: the folder of ``images_background`` and ``images_evaluation``.
        settings: import settings.
    """
    import numpy as np

    from benchmark.data.image_format import ImageFormat
    from benchmark.data.importing import ImageList, expect_per_class
    from benchmark.errors import InputError

    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise InputError(f"{folder} holds no folder {missing[0]}; unpack {missing[0]}.zip there")
    by_character: dict[str, list[Path]] = {}
    for part in PARTS:
        for path in sorted((folder / part).glob("[!.]*/[!.]*/[!.]*.png")):
            by_character.setdefault(f"{path.parent.parent.name}/{path.parent.name}", []).append(path)
    files = [path for paths in by_character.values() for path in paths]
    labels = np.repeat(np.arange(len(by_character)), [len(paths) for paths in by_character.values()])
    turns = range(QUARTER_TURNS if settings.rotations else 1)
    image_list = ImageList(
        files * len(turns),
        np.concatenate([labels + turn * len(by_character) for turn in turns]),
        tuple(_class_name(character, turn) for turn in turns for character in by_character),
        ImageFormat(settings.size, channels=1, resize=settings.resize),
        rotations=np.repeat(turns, len(files)),
    )
    return expect_per_class(image_list, PER_CLASS, folder)


def _class_name(character: str, turn: int) -> str:
    return f"{character}/turned {90 * turn}" if turn else character


def split(index: MapIndex) -> ClassSplit:
    """Load the split of Vinyals et al. (NeurIPS 2016, arXiv 1606.04080) and add rotated classes, if imported.

    It has 1,028, 172 and 423 characters.
    """
    from benchmark.data.class_splits import ClassSplit, load_class_split

    characters = load_class_split("omniglot-vinyals")
    if not index.settings.get("rotations", False):
        return characters
    parts = {
        part: tuple(_class_name(name, turn) for turn in range(QUARTER_TURNS) for name in names)
        for part, names in characters.classes.items()
    }
    return ClassSplit("omniglot-vinyals-rotations", parts)


OMNIGLOT = PublishedDataset(
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
        "python -m benchmark data import omniglot --from FOLDER (FOLDER: the folder of both files)",
    ),
)
DATASETS.register("omniglot")(OMNIGLOT)
