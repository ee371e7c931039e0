"""CIFAR-100, as its Python batches hold it, or few-shot learning's pickles by part of the classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.data.download import Download
from benchmark.data.published import NoImportSettings, Published
from benchmark.data.sets import DATASETS

if TYPE_CHECKING:
    from benchmark.data.class_splits import ClassSplit
    from benchmark.data.importing import ImageList
    from benchmark.data.memory_map import Index

PER_CLASS = {"train": 500, "test": 100}


def read(folder: Path, settings: Any) -> ImageList:
    """The 50,000 training and 10,000 test images of ``train``, ``test`` and ``meta``."""
    import numpy as np

    from benchmark.data.importing import ConcatImages, Form, ImageList
    from benchmark.data.unpickling import load_pickle
    from benchmark.errors import InputError

    parts, labels, official = [], [], []
    for side, wanted in PER_CLASS.items():
        path = folder / side
        batch = load_pickle(path)
        try:
            pixels = np.asarray(batch["data"], np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            fine = np.asarray(batch["fine_labels"], np.int64)
            counts = np.bincount(fine, minlength=100)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"file {path} is no batch of CIFAR-100 ({error}); get it again") from None
        if counts.tolist() != [wanted] * 100 or len(pixels) != len(fine):
            raise InputError(f"file {path} is not whole: not {wanted} images of each of 100 classes; get it again")
        parts.append(pixels)
        labels.append(fine)
        official.append(np.full(len(fine), side == "test"))
    meta = load_pickle(folder / "meta")
    names = tuple(meta.get("fine_label_names", ())) if isinstance(meta, dict) else ()
    if len(set(names)) != 100:
        raise InputError(f"file {folder / 'meta'} does not name 100 classes; get it again")
    return ImageList(
        ConcatImages(*parts), np.concatenate(labels), names, Form(32),
        tuple(folder / n for n in ("train", "test", "meta")),
        official_test=np.concatenate(official),
    )  # fmt: skip


def read_either(prefix: str, split: Callable[[Index | None], ClassSplit]) -> Callable[[Path, Any], ImageList]:
    """What reads ``{prefix}_train.pickle``, ``_val`` and ``_test`` where these are, and the Python batches elsewhere.

    Each pickle has ``data``, M x 32 x 32 x 3, and ``labels``, the M numbers of CIFAR-100's fine classes, whose training
    and test images are not told apart there.
    """

    def read_parts(folder: Path, settings: Any) -> ImageList:
        import numpy as np

        from benchmark.data.importing import ConcatImages, Form, ImageList
        from benchmark.data.unpickling import load_pickle
        from benchmark.errors import InputError

        if not (folder / f"{prefix}_train.pickle").exists():
            return read(folder, settings)
        parts = split(None)
        names = tuple(sorted(name for found in parts.classes.values() for name in found))
        sources = tuple(folder / f"{prefix}_{part}.pickle" for part in parts.classes)
        images, labels = [], []
        for path, classes in zip(sources, parts.indices(names).values(), strict=True):
            values = load_pickle(path)
            try:
                pixels, fine = values["data"], np.asarray(values["labels"], np.int64)
                counts = np.bincount(fine, minlength=100)
                if pixels.dtype != np.uint8 or pixels.shape != (len(fine), 32, 32, 3):
                    raise ValueError("its images are not uint8 M x 32 x 32 x 3, one for each label")
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise InputError(f"file {path} is no part of {prefix} ({error}); get it again") from None
            wanted = sum(PER_CLASS.values())
            if counts.tolist() != [wanted if c in classes else 0 for c in range(100)]:
                raise InputError(
                    f"file {path} is not whole or of another split: not {wanted} images of each of the {len(classes)} "
                    f"classes that {parts.name} has there, by their numbers in CIFAR-100; get it again"
                )
            images.append(pixels)
            labels.append(fine)
        facts = {"source_form": "pickles by part"}
        return ImageList(ConcatImages(*images), np.concatenate(labels), names, Form(32), sources, facts=facts)

    return read_parts


def split(index: Index | None = None) -> ClassSplit:
    """CIFAR-FS (Bertinetto et al., ICLR 2019, arXiv 1805.08136): 64, 16 and 20 classes."""
    from benchmark.data.class_splits import load_class_split

    return load_class_split("cifar-fs")


def orders(index: Index) -> Mapping[str, tuple[int, ...]]:
    """Distillation: CIFAR-FS' train, val and test classes (arXiv 2205.01915); incremental: drawn with seed 1993."""
    import numpy as np

    parts = split(index).indices(index.classes)
    drawn = np.random.RandomState(1993).permutation(len(index.classes))
    return {"distillation": parts["train"] + parts["val"] + parts["test"], "incremental": tuple(drawn.tolist())}


CIFAR100 = Published(
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
