"""CUB-200-2011 with its official test images and the four class splits of few-shot papers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from benchmark.data.download import Download
from benchmark.data.image_format import Resize
from benchmark.data.published import PublishedDataset, ResizeSettings
from benchmark.data.sets import DATASETS

if TYPE_CHECKING:
    from benchmark.data.class_splits import ClassSplit
    from benchmark.data.importing import ImageList
    from benchmark.data.memory_map import MapIndex
    from benchmark.errors import InputError

CLASSES, IMAGES, TRAINING_IMAGES = 200, 11_788, 5_994
_LARGEST_SIDE = 100_000


@dataclass(frozen=True)
class Settings(ResizeSettings):
    """Import settings of CUB.

    Attributes:
        crop: keep only the bird's bounding box.
    """

    resize: Resize = "centre"
    crop: bool = False


@dataclass(frozen=True)
class Cropped(Settings):
    """Import settings of FEAT's CUB: cropped to the bounding box."""

    crop: bool = True


def read(folder: Path, settings: Any) -> ImageList:
    """Read the official files: images, and the tables of classes, official test images and bounding boxes.

    Args:
        folder: the folder of ``images.txt``.
        settings: import settings.
    """
    import numpy as np

    from benchmark.data.image_format import ImageFormat
    from benchmark.data.importing import ImageList
    from benchmark.errors import InputError

    tables = {
        name: _table(folder / f"{name}.txt", columns)
        for name, columns in (
            ("images", 2), ("image_class_labels", 2), ("train_test_split", 2), ("bounding_boxes", 5), ("classes", 2)
        )
    }  # fmt: skip
    ids = list(tables["images"])
    for name in ("image_class_labels", "train_test_split", "bounding_boxes"):
        if list(tables[name]) != ids:
            raise InputError(f"file {folder / name}.txt does not list the images of images.txt; get it again")
    position = {number: c for c, number in enumerate(tables["classes"])}
    for i in ids:
        path, label = PurePosixPath(tables["images"][i][0]), tables["image_class_labels"][i][0]
        if path.is_absolute() or ".." in path.parts or "\\" in str(path):
            raise _damaged_row(folder, "images", i, "its file lies outside of the folder images")
        if label not in position:
            raise _damaged_row(folder, "image_class_labels", i, f"there is no class {label!r}")
        if tables["train_test_split"][i] not in (["0"], ["1"]):
            raise _damaged_row(folder, "train_test_split", i, "it is neither 0 nor 1")
    labels = np.array([position[tables["image_class_labels"][i][0]] for i in ids], np.int64)
    boxes = np.array([_box(folder, i, tables["bounding_boxes"][i]) for i in ids])
    training = np.array([tables["train_test_split"][i] == ["1"] for i in ids])
    if (len(position), len(ids), training.sum()) != (CLASSES, IMAGES, TRAINING_IMAGES):
        raise InputError(
            f"{folder} is not whole: {len(position)} classes, {len(ids)} images, {training.sum()} for training, "
            f"not {CLASSES}, {IMAGES} and {TRAINING_IMAGES}; get it again"
        )
    return ImageList(
        [folder / "images" / tables["images"][i][0] for i in ids],
        labels,
        tuple(tables["classes"][c][0] for c in position),
        ImageFormat(settings.size, resize=settings.resize),
        boxes=boxes if settings.crop else None,
        official_test=~training,
    )


def read_feat(folder: Path, settings: Any) -> ImageList:
    """Read FEAT's lists and cropped images, or the official files if ``images.txt`` is there.

    The lists are ``train.csv``, ``val.csv`` and ``test.csv``, in ``split`` or in the folder itself. Each has a line of
    column names; every further line has a file, its class and 28 attributes. The files are in ``images``, with or
    without a folder for each class.

    Args:
        folder: the folder of the files.
        settings: import settings.
    """
    import numpy as np

    from benchmark.data.image_format import ImageFormat
    from benchmark.data.importing import ImageList
    from benchmark.data.text_files import read_table
    from benchmark.errors import InputError

    if (folder / "images.txt").exists():
        return read(folder, settings)
    lists = folder / "split" if (folder / "split").is_dir() else folder
    classes: list[str] = []
    files_and_classes: list[tuple[str, str]] = []
    sources = []
    split = by_list("cub-feat")(None)
    for part, names in split.classes.items():
        sources.append(lists / f"{part}.csv")
        columns, *rows = read_table(sources[-1])
        if columns[:2] != ["filename", "label"] or any(len(row) < 2 or row[0] != Path(row[0]).name for row in rows):
            raise InputError(f"file {sources[-1]} is not a list of filename, label and attributes; get it again")
        if {row[1] for row in rows} != set(names):
            raise InputError(f"file {sources[-1]} does not have the {len(names)} classes of {split.name}; get it again")
        classes += names
        files_and_classes += [(row[0], row[1]) for row in rows]
    if len(files_and_classes) != IMAGES:
        raise InputError(f"the lists in {lists} name {len(files_and_classes)} images, not {IMAGES}; get them again")
    classes.sort()
    position = {name: c for c, name in enumerate(classes)}
    flat = (folder / "images" / files_and_classes[0][0]).exists()
    return ImageList(
        [folder / "images" / ("" if flat else name) / file for file, name in files_and_classes],
        np.array([position[name] for _, name in files_and_classes]),
        tuple(classes),
        ImageFormat(settings.size, resize=settings.resize),
        tuple(sources),
        facts={"source_form": "cropped images, lists of FEAT"},
    )


def _table(path: Path, columns: int) -> dict[str, list[str]]:
    """Read a table of words: the first word of each row to the others."""
    from benchmark.data.text_files import read_text
    from benchmark.errors import InputError

    rows: dict[str, list[str]] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        row = line.split()
        if row and len(row) != columns:
            raise InputError(f"file {path} is damaged (line {number}: {line[:80]!r}); get the data set again")
        if row and row[0] in rows:
            raise InputError(f"file {path} is damaged (line {number}: {row[0]} stands twice); get the data set again")
        if row:
            rows[row[0]] = row[1:]
    return rows


def _box(folder: Path, row: str, words: Sequence[str]) -> list[float]:
    """Return left, top, right and bottom of a box that is given by its left, top, width and height."""
    try:
        left, top, width, height = map(float, words)
    except ValueError:
        raise _damaged_row(folder, "bounding_boxes", row, "its box is not made of numbers") from None
    box = [left, top, left + width, top + height]
    if not all(map(math.isfinite, box)) or min(left, top) < 0 or min(width, height) <= 0 or max(box) > _LARGEST_SIDE:
        raise _damaged_row(folder, "bounding_boxes", row, f"its box {' '.join(words)} lies in no picture")
    return box


def _damaged_row(folder: Path, table: str, row: str, reason: str) -> InputError:
    from benchmark.errors import InputError

    return InputError(f"file {folder / table}.txt is damaged (row {row}: {reason}); get the data set again")


def by_rule(name: str, first: int) -> Callable[[MapIndex], ClassSplit]:
    """Make a split by class number: even numbers train; number % 4 == 1 is val and number % 4 == 3 is test.

    Args:
        name: the split's name.
        first: number of the first class.
    """

    def split(index: MapIndex) -> ClassSplit:
        from benchmark.data.class_splits import ClassSplit

        part_of = ("train", "val", "train", "test")
        parts: dict[str, list[str]] = {"train": [], "val": [], "test": []}
        for number, class_ in enumerate(index.classes, first):
            parts[part_of[number % 4]].append(class_)
        return ClassSplit(name, {part: tuple(names) for part, names in parts.items()})

    return split


def by_list(name: str) -> Callable[[MapIndex | None], ClassSplit]:
    """Make a split from the class list that ships under this name."""

    def split(index: MapIndex | None) -> ClassSplit:
        from benchmark.data.class_splits import load_class_split

        return load_class_split(name)

    return split


def orders(index: MapIndex) -> Mapping[str, tuple[int, ...]]:
    """Return the class orders: by number for distillation (arXiv 2205.01915), random of seed 1993 for incremental."""
    import numpy as np

    count = len(index.classes)
    shuffled = np.random.RandomState(1993).permutation(count)
    return {"distillation": tuple(range(count)), "incremental": tuple(shuffled.tolist())}


CUB = PublishedDataset(
    name="cub",
    about="CUB-200-2011: 11,788 photos of 200 bird species; official test images; classes split as cub-closerlook.",
    Settings=Settings,
    path="the folder CUB_200_2011, or CUB_200_2011.tgz",
    holds=("images.txt",),
    read=read,
    split=by_rule("cub-closerlook", 0),
    orders=orders,
    downloads=(
        Download(
            "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
            "CUB_200_2011.tgz",
            "97eceeb196236b17998738112f37df78",
        ),
    ),
    steps=(
        "Get CUB_200_2011.tgz (1.1 GB) from https://www.vision.caltech.edu/datasets/cub_200_2011/.",
        "python -m benchmark data import cub --from CUB_200_2011.tgz",
    ),
)
DATASETS.register("cub")(CUB)
DATASETS.register("cub-closerlook")(
    dataclasses.replace(
        CUB,
        name="cub-closerlook",
        about="CUB, 100 / 50 / 50 classes by number from 0, whole photos (Chen et al. 2019, arXiv 1904.04232).",
        base=CUB,
        needs={"crop": False},
    )
)
DATASETS.register("cub-frn")(
    dataclasses.replace(
        CUB,
        name="cub-frn",
        about="CUB, 100 / 50 / 50 classes by number from 1 (Wertheimer et al. 2021, arXiv 2012.01506).",
        split=by_rule("cub-frn", 1),
        base=CUB,
    )
)
DATASETS.register("cub-feat")(
    dataclasses.replace(
        CUB,
        name="cub-feat",
        about="CUB, 100 / 50 / 50 classes drawn at random, cropped to the bird (Ye et al. 2020, arXiv 1812.03664).",
        Settings=Cropped,
        path="the folder CUB_200_2011 or CUB_200_2011.tgz, or a folder with FEAT's lists (split/train.csv, val.csv, "
        "test.csv) and images, the cropped ones",
        holds=(*CUB.holds, "split/train.csv", "train.csv"),
        read=read_feat,
        split=by_list("cub-feat"),
        base=CUB,
        needs={"crop": True},
    )
)
DATASETS.register("cub-metadataset")(
    dataclasses.replace(
        CUB,
        name="cub-metadataset",
        about="CUB, 140 / 30 / 30 classes as Meta-Dataset (Triantafillou et al. 2020, arXiv 1903.03096).",
        split=by_list("cub-metadataset"),
        base=CUB,
    )
)
