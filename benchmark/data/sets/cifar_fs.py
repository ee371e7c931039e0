"""CIFAR-FS: CIFAR-100 with a random class split, for few-shot learning."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.data.sets import DATASETS, cifar100
from benchmark.data.sets.cifar100 import CIFAR100, read_either, split

if TYPE_CHECKING:
    from benchmark.data.importing import ImageList

_FOLDERS = "cifar100/splits/bertinetto"


def read(folder: Path, settings: Any) -> ImageList:
    """Read learn2learn's image files in ``cifar100/data`` if they are there, else as ``read_either``.

    Args:
        folder: the folder of the files.
        settings: import settings; there are none.
    """
    import numpy as np

    from benchmark.data.image_format import ImageFormat
    from benchmark.data.importing import ImageList, expect_per_class

    if not (folder / _FOLDERS).is_dir():
        return read_either("CIFAR_FS", split)(folder, settings)
    classes = tuple(sorted(name for names in split().classes.values() for name in names))
    files = [sorted((folder / "cifar100/data" / name).glob("[!.]*.png")) for name in classes]
    image_list = ImageList(
        [path for paths in files for path in paths],
        np.repeat(np.arange(len(classes)), [len(paths) for paths in files]),
        classes,
        ImageFormat(32),
        facts={"source_form": "image files"},
    )
    return expect_per_class(image_list, sum(cifar100.PER_CLASS.values()), folder)


CIFAR_FS = dataclasses.replace(
    CIFAR100,
    name="cifar-fs",
    about="CIFAR-FS: CIFAR-100 with 64 / 16 / 20 classes drawn at random (Bertinetto et al. 2019, arXiv 1805.08136).",
    path="the folder of CIFAR_FS_train.pickle, CIFAR_FS_val.pickle and CIFAR_FS_test.pickle; of cifar100/data "
    "and cifar100/splits, as learn2learn's cifarfs is; or cifar-100-python",
    holds=("CIFAR_FS_train.pickle", _FOLDERS, *CIFAR100.holds),
    read=read,
    base=CIFAR100,
)
DATASETS.register("cifar-fs")(CIFAR_FS)
