"""tieredImageNet, from its pickles of PNG images or its npz arrays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.data.published import PublishedDataset, ResizeSettings
from benchmark.data.sets import DATASETS
from benchmark.errors import InputError

if TYPE_CHECKING:
    from benchmark.data.class_splits import ClassSplit
    from benchmark.data.importing import ImageList, ImageSource
    from benchmark.data.memory_map import MapIndex

CLASSES = {"train": 351, "val": 97, "test": 160}
IMAGES = {"train": 448_695, "val": 124_261, "test": 206_209}


def read(folder: Path, settings: Any) -> ImageList:
    """Read the three parts. Each part is loaded when its first image is needed and released after its last.

    Args:
        folder: the folder of the files.
        settings: import settings.
    """
    import numpy as np

    from benchmark.data.image_format import ImageFormat
    from benchmark.data.importing import ConcatImages, ImageList

    parts: list[ImageSource] = []
    labels: list[Any] = []
    classes: list[str] = []
    sources: list[Path] = []
    for part in CLASSES:
        path = folder / f"{part}_labels.pkl"
        numbers, names = _labels(path)
        if (len(names), len(numbers)) != (CLASSES[part], IMAGES[part]):
            raise InputError(
                f"file {path} has {len(numbers)} images of {len(names)} classes, not {IMAGES[part]} of {CLASSES[part]}"
            )
        images_path, images = _images(folder, part, len(numbers))
        labels.append(numbers + len(classes))
        classes += [f"{part} {c:03d} {name}".rstrip() for c, name in enumerate(names)]
        parts.append(images)
        sources += [path, images_path]
    return ImageList(
        ConcatImages(*parts),
        np.concatenate(labels),
        tuple(classes),
        ImageFormat(settings.size, resize=settings.resize),
        tuple(sources),
        facts={"source_form": "npz" if sources[1].suffix == ".npz" else "png pickles"},
    )


def _labels(path: Path) -> tuple[Any, list[str]]:
    """Read class numbers from 0 and class names; the names are empty if the file has none."""
    import numpy as np

    from benchmark.data.unpickling import as_labels, as_names, load_pickle

    values = load_pickle(path)
    try:
        labels = as_labels(values["label_specific" if "label_specific" in values else "labels"], 2**31)
        classes, numbers = np.unique(labels, return_inverse=True)
        names = as_names(values.get("label_specific_str", [""] * len(classes)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"pickle {path} holds no labels ({type(error).__name__}: {error}); get it again") from None
    return numbers, names


def _images(folder: Path, part: str, count: int) -> tuple[Path, ImageSource]:
    from benchmark.data.streaming import LazyImages, NpzImages

    pickled, arrays = folder / f"{part}_images_png.pkl", folder / f"{part}_images.npz"
    if arrays.exists():
        images = NpzImages(arrays, "images", bgr=True)  # decoded by OpenCV: blue, green, red
        if len(images) != count:
            raise InputError(f"file {arrays} holds {len(images)} images for {count} labels; get both again")
        return arrays, images
    if pickled.exists():
        return pickled, LazyImages(pickled, count, _encoded)
    raise InputError(f"{folder} holds neither {pickled.name} nor {arrays.name}; get one of them")


def _encoded(path: Path) -> list[bytes]:
    """Read the PNG files of a pickled list of byte arrays."""
    import numpy as np

    from benchmark.data.unpickling import load_pickle

    values = load_pickle(path)
    if not isinstance(values, list) or not all(isinstance(v, np.ndarray) and v.dtype == np.uint8 for v in values):
        raise InputError(f"pickle {path} is not a list of encoded images; get it again")
    for number, value in enumerate(values):  # in place: they may fill half the memory
        values[number] = value.tobytes()
    return values


def split(index: MapIndex) -> ClassSplit:
    """Split the classes by their files: 351, 97 and 160 classes (Ren et al., ICLR 2018, arXiv 1803.00676)."""
    from benchmark.data.class_splits import ClassSplit

    parts = {part: tuple(name for name in index.classes if name.startswith(f"{part} ")) for part in CLASSES}
    return ClassSplit("tieredimagenet", parts)


TIEREDIMAGENET = PublishedDataset(
    name="tieredimagenet",
    about="tieredImageNet: 779,165 photos, 84 x 84 RGB; 351 / 97 / 160 classes of other kinds (Ren et al. 2018).",
    Settings=ResizeSettings,
    path="the folder of train_labels.pkl, train_images_png.pkl (or train_images.npz) and so on",
    holds=("train_labels.pkl",),
    read=read,
    split=split,
    steps=(
        "ImageNet's terms forbid passing its images on: ask for access to ILSVRC 2012 at https://image-net.org.",
        "Make or get tiered-imagenet as https://github.com/renmengye/few-shot-ssl-public describes: "
        "{train,val,test}_labels.pkl with {train,val,test}_images_png.pkl or {train,val,test}_images.npz.",
        "python -m benchmark data import tieredimagenet --from FOLDER",
    ),
)
DATASETS.register("tieredimagenet")(TIEREDIMAGENET)
