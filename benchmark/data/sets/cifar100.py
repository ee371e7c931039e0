"""CIFAR-100, from its Python batches or from few-shot learning's pickles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.data.download import Download
from benchmark.data.published import NoImportSettings, PublishedDataset
from benchmark.data.sets import DATASETS

if TYPE_CHECKING:
    from benchmark.data.class_splits import ClassSplit
    from benchmark.data.importing import ImageList
    from benchmark.data.memory_map import MapIndex

PER_CLASS = {"train": 500, "test": 100}
"""Images of each class in each batch."""


def read(folder: Path, settings: Any) -> ImageList:
    """Read the 50,000 training and 10,000 test images of the Python batches.

    Args:
        folder: the folder of ``train``, ``test`` and ``meta``.
        settings: import settings; there are none.
    """
    import numpy as np

    from benchmark.data.image_format import ImageFormat
    from benchmark.data.importing import ConcatImages, ImageList
    from benchmark.data.unpickling import as_labels, as_names, load_pickle
    from benchmark.errors import InputError

    parts, labels, official = [], [], []
    for name, count in PER_CLASS.items():
        path = folder / name
        batch = load_pickle(path)
        try:
            fine = as_labels(batch["fine_labels"], 100)
            counts = np.bincount(fine, minlength=100)
            pixels = _pixels(batch["data"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"file {path} is not a batch of CIFAR-100 ({error}); get it again") from None
        if counts.tolist() != [count] * 100 or len(pixels) != len(fine):
            raise InputError(f"file {path} is not whole: not {count} images of each of 100 classes; get it again")
        parts.append(pixels)
        labels.append(fine)
        official.append(np.full(len(fine), name == "test"))
    meta = load_pickle(folder / "meta")
    try:
        names = tuple(as_names(meta["fine_label_names"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"file {folder / 'meta'} does not name the classes ({error}); get it again") from None
    if (len(names), len(set(names))) != (100, 100):
        raise InputError(f"file {folder / 'meta'} does not name 100 classes; get it again")
    return ImageList(
        ConcatImages(*parts), np.concatenate(labels), names, ImageFormat(32),
        tuple(folder / n for n in ("train", "test", "meta")),
        official_test=np.concatenate(official),
    )  # fmt: skip


def _pixels(values: Any) -> Any:
    """Return M x 32 x 32 x 3 pixels, which are stored so, or by channel: M x 3072 or M x 3 x 32 x 32."""
    import numpy as np

    if not isinstance(values, np.ndarray) or values.dtype != np.uint8:
        kind = values.dtype if isinstance(values, np.ndarray) else type(values).__name__
        raise ValueError(f"its pixels are {kind}, not uint8")
    if values.shape[1:] == (32, 32, 3):
        return values
    if values.shape[1:] not in ((3072,), (3, 32, 32)):
        raise ValueError(f"its pixels have the shape {values.shape}, not M x 3072")
    return values.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def read_either(prefix: str, split: Callable[[MapIndex | None], ClassSplit]) -> Callable[[Path, Any], ImageList]:
    """Make a reader of few-shot learning's pickles; it reads the Python batches if there are no pickles.

    Each pickle has ``data``, M x 32 x 32 x 3, and ``labels``, M numbers of CIFAR-100's fine classes. The pickles do not
    distinguish training and test images.

    Args:
        prefix: the pickles are ``{prefix}_train.pickle``, ``{prefix}_val.pickle`` and ``{prefix}_test.pickle``.
        split: returns the classes of each pickle.
    """

    def read_parts(folder: Path, settings: Any) -> ImageList:
        import numpy as np

        from benchmark.data.image_format import ImageFormat
        from benchmark.data.importing import ConcatImages, ImageList
        from benchmark.data.unpickling import as_labels, load_pickle
        from benchmark.errors import InputError

        if not (folder / f"{prefix}_train.pickle").exists():
            return read(folder, settings)
        parts = split(None)
        names = tuple(sorted(name for part in parts.classes.values() for name in part))
        sources = tuple(folder / f"{prefix}_{part}.pickle" for part in parts.classes)
        images, labels = [], []
        for path, classes in zip(sources, parts.indices(names).values(), strict=True):
            values = load_pickle(path)
            try:
                pixels, fine = values["data"], as_labels(values["labels"], 100)
                counts = np.bincount(fine, minlength=100)
                if pixels.dtype != np.uint8 or pixels.shape != (len(fine), 32, 32, 3):
                    raise ValueError(
                        f"its images are {pixels.dtype} {pixels.shape}, not uint8 {(len(fine), 32, 32, 3)}"
                    )
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise InputError(f"file {path} is not a part of {prefix} ({error}); get it again") from None
            count = sum(PER_CLASS.values())
            if counts.tolist() != [count if c in classes else 0 for c in range(100)]:
                raise InputError(
                    f"file {path} is not whole or of another split: not {count} images of each of the {len(classes)} "
                    f"classes that {parts.name} has there, by their numbers in CIFAR-100; get it again"
                )
            images.append(pixels)
            labels.append(fine)
        facts = {"source_form": "pickles by part"}
        return ImageList(ConcatImages(*images), np.concatenate(labels), names, ImageFormat(32), sources, facts=facts)

    return read_parts


def split(index: MapIndex | None = None) -> ClassSplit:
    """Load the split of CIFAR-FS (Bertinetto et al., ICLR 2019, arXiv 1805.08136): 64, 16 and 20 classes."""
    from benchmark.data.class_splits import load_class_split

    return load_class_split("cifar-fs")


def orders(index: MapIndex) -> Mapping[str, tuple[int, ...]]:
    """Return the class orders.

    Distillation uses the train, val and test classes of CIFAR-FS (arXiv 2205.01915). Incremental learning uses a random
    order of seed 1993.
    """
    import numpy as np

    parts = split(index).indices(index.classes)
    shuffled = np.random.RandomState(1993).permutation(len(index.classes))
    return {"distillation": parts["train"] + parts["val"] + parts["test"], "incremental": tuple(shuffled.tolist())}


CIFAR100 = PublishedDataset(
    name="cifar100",
    about="CIFAR-100: 60,000 photos, 32 x 32 RGB, 100 classes; official test images; classes split as CIFAR-FS.",
    Settings=NoImportSettings,
    path="the folder cifar-100-python, or cifar-100-python.tar.gz",
    holds=("meta",),
    read=read,
    split=split,
    orders=orders,
    downloads=(
        Download(
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
            "cifar-100-python.tar.gz",
            "eb9058c3a382ffc7106e4002c42a8d85",
        ),
    ),
    steps=(
        "Get `CIFAR-100 python version` from https://www.cs.toronto.edu/~kriz/cifar.html (cifar-100-python.tar.gz).",
        "python -m benchmark data import cifar100 --from cifar-100-python.tar.gz",
    ),
)
DATASETS.register("cifar100")(CIFAR100)
