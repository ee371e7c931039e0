"""miniImageNet, from any of its four common forms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.data.published import PublishedDataset, ResizeSettings
from benchmark.data.sets import DATASETS
from benchmark.errors import InputError

if TYPE_CHECKING:
    from benchmark.data.class_splits import ClassSplit
    from benchmark.data.decoding import RawImage
    from benchmark.data.importing import ImageList
    from benchmark.data.memory_map import MapIndex

PER_CLASS = 600
LISTS_MD5 = {
    "train": "9525e1538f67719f18f1936bf8d0782d",
    "val": "ce315ce99b41fbf84fa6acd69315d918",
    "test": "5b89df877c6cbe5d291e43118a2a9591",
}
"""MD5 of the csv files of Ravi and Larochelle."""

LabelledImage = tuple[str, "RawImage"]
"""Class name and raw image."""


def read(folder: Path, settings: Any) -> ImageList:
    """Read 600 images of each of 100 classes from the form that is there.

    Args:
        folder: the folder of the files.
        settings: import settings.
    """
    import numpy as np

    from benchmark.data.image_format import ImageFormat
    from benchmark.data.importing import ImageList, expect_per_class

    parts = split().classes
    classes = tuple(name for names in parts.values() for name in names)
    position = {name: c for c, name in enumerate(classes)}
    form = next(form for form, (marks, _) in FORMS.items() if (folder / marks["train"][0]).exists())
    marks, reader = FORMS[form]
    images: list[RawImage] = []
    labels: list[int] = []
    sources: list[Path] = []
    facts: dict[str, Any] = {"source_form": form}
    for part, names in parts.items():
        path = next((folder / mark for mark in marks[part] if (folder / mark).is_file()), None)
        if path is None:
            raise InputError(f"file {folder / marks[part][0]} is missing; get it, then repeat the command")
        sources.append(path)
        for name, image in reader(folder, path):
            if name not in names:
                raise InputError(f"file {path} has images of {name!r}, which is not in miniImageNet's {part} split")
            images.append(image)
            labels.append(position[name])
    if form == "csv":
        facts["published_lists"] = all(_md5(folder / f"{part}.csv") == md5 for part, md5 in LISTS_MD5.items())
    image_list = ImageList(
        images, np.asarray(labels, np.int64), classes, ImageFormat(settings.size, resize=settings.resize),
        tuple(sources), facts=facts,
    )  # fmt: skip
    return expect_per_class(image_list, PER_CLASS, folder)


def _from_csv(folder: Path, path: Path) -> Iterator[LabelledImage]:
    """Read a csv file with one of two sets of columns.

    ``filename,label``: the files are in ``images``. ``class_name,image_name``: they are in one folder for each class.
    """
    from benchmark.data.text_files import read_table

    columns, *rows = read_table(path)
    short = next((row for row in rows if len(row) < len(columns)), None)
    if short is not None:
        raise InputError(f"file {path} has a row {','.join(short)!r} without all of its columns; get it again")
    named = {name: [row[c] for row in rows] for c, name in enumerate(columns)}
    if {"filename", "label"} <= set(columns):
        for name, label in zip(named["filename"], named["label"], strict=True):
            yield label, folder / "images" / _plain(name, path)
    elif {"class_name", "image_name"} <= set(columns) and rows:
        files = [
            Path(_plain(class_name, path)) / _plain(image_name, path)
            for class_name, image_name in zip(named["class_name"], named["image_name"], strict=True)
        ]
        candidates = (folder, folder / "images", folder / "train")
        parent = next((candidate for candidate in candidates if (candidate / files[0]).exists()), folder)
        for file in files:
            yield file.parent.name, parent / file
    else:
        raise InputError(f"file {path} has columns {sorted(columns)}, not filename,label or class_name,image_name")


def _plain(name: str | None, path: Path) -> str:
    """Return ``name`` if it is a plain file name, not a path."""
    if not name or name != Path(name).name or name in (".", ".."):
        raise InputError(f"file {path} names an image or class {name!r}, which is not a plain name; get it again")
    return name


def _from_cache(folder: Path, path: Path) -> Iterator[LabelledImage]:
    """Read a pickle of ``image_data``, M x 84 x 84 x 3, and ``class_dict``, the rows of each class."""
    from benchmark.data.unpickling import as_labels, as_names, load_pickle

    values = load_pickle(path)
    try:
        images = _pixels(values["image_data"])
        rows_of = {name: as_labels(rows, len(images)).tolist() for name, rows in values["class_dict"].items()}
        used = [row for rows in rows_of.values() for row in rows]
        if len(set(used)) < len(used):
            raise ValueError("an image has two classes, or one twice")
        for name, rows in zip(as_names(list(rows_of)), rows_of.values(), strict=True):
            for row in rows:
                yield name, images[row]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(f"pickle {path} is not of this form ({type(error).__name__}: {error}); get it again") from None


def _from_category_split(folder: Path, path: Path) -> Iterator[LabelledImage]:
    """Read a pickle of ``data``, M x 84 x 84 x 3, ``labels``, M numbers, and ``catname2label``, class name to number.

    ``train_phase_val`` and ``train_phase_test`` hold further images of training classes; they are not read.
    """
    from benchmark.data.unpickling import as_labels, as_names, load_pickle

    values = load_pickle(path)
    try:
        numbers = as_labels(list(values["catname2label"].values()), 2**31).tolist()
        names = dict(zip(numbers, as_names(list(values["catname2label"])), strict=True))
        if len(names) < len(numbers):
            raise ValueError("two classes have the same number")
        labels = as_labels(values["labels"], 2**31).tolist()
        for image, label in zip(_pixels(values["data"]), labels, strict=True):
            yield names[label], image
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(f"pickle {path} is not of this form ({type(error).__name__}: {error}); get it again") from None


def _pixels(values: Any) -> Any:
    import numpy as np

    if not isinstance(values, np.ndarray) or values.dtype != np.uint8 or values.ndim != 4 or values.shape[3] != 3:
        kind = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
        raise ValueError(f"its images are {kind}, not uint8 M x H x W x 3")
    return values


def _md5(path: Path) -> str:
    import hashlib

    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


FORMS: Mapping[str, tuple[Mapping[str, tuple[str, ...]], Callable[[Path, Path], Iterator[LabelledImage]]]] = {
    "csv": ({part: (f"{part}.csv",) for part in LISTS_MD5}, _from_csv),
    "cache": (
        {
            "train": ("mini-imagenet-cache-train.pkl",),
            "val": ("mini-imagenet-cache-val.pkl", "mini-imagenet-cache-validation.pkl"),
            "test": ("mini-imagenet-cache-test.pkl",),
        },
        _from_cache,
    ),
    "category split": (
        {
            "train": ("miniImageNet_category_split_train_phase_train.pickle",),
            "val": ("miniImageNet_category_split_val.pickle",),
            "test": ("miniImageNet_category_split_test.pickle",),
        },
        _from_category_split,
    ),
}
"""For each form, the possible files of each part and their reader. The first training file identifies the form."""


def split(index: MapIndex | None = None) -> ClassSplit:
    """Load the split of Ravi and Larochelle (ICLR 2017): 64, 16 and 20 classes."""
    from benchmark.data.class_splits import load_class_split

    return load_class_split("miniimagenet")


MINIIMAGENET = PublishedDataset(
    name="miniimagenet",
    about="miniImageNet: 60,000 photos, 84 x 84 RGB; 64 / 16 / 20 classes as Ravi and Larochelle 2017.",
    Settings=ResizeSettings,
    path="a folder with train.csv, val.csv, test.csv and the images, or with the pickles",
    holds=tuple(marks["train"][0] for marks, _ in FORMS.values()),
    read=read,
    split=split,
    steps=(
        "ImageNet's terms forbid passing its images on: ask for access to ILSVRC 2012 at https://image-net.org.",
        "Get train.csv, val.csv and test.csv from https://github.com/twitter-research/meta-learning-lstm "
        "(data/miniImagenet).",
        "Put the listed images into a folder `images` beside the lists, under their names in the lists. "
        "Other accepted forms: csv files of class_name,image_name beside folders of classes; "
        "mini-imagenet-cache-{train,val,test}.pkl; miniImageNet_category_split_{train_phase_train,val,test}.pickle.",
        "python -m benchmark data import miniimagenet --from FOLDER",
    ),
)
DATASETS.register("miniimagenet")(MINIIMAGENET)
