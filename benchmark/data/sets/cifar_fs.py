"""CIFAR-FS: CIFAR-100 for few-shot learning, classes split at random."""

from __future__ import annotations

import dataclasses

from benchmark.data.sets import DATASETS
from benchmark.data.sets.cifar100 import CIFAR100, read_either, split

CIFAR_FS = dataclasses.replace(
    CIFAR100,
    name="cifar-fs",
    about="CIFAR-FS: CIFAR-100 with 64 / 16 / 20 classes drawn at random (Bertinetto et al. 2019, arXiv 1805.08136).",
    path="the folder of CIFAR_FS_train.pickle, CIFAR_FS_val.pickle and CIFAR_FS_test.pickle, or cifar-100-python",
    holds=("CIFAR_FS_train.pickle", *CIFAR100.holds),
    read=read_either("CIFAR_FS", split),
    base=CIFAR100,
)
DATASETS.register("cifar-fs")(CIFAR_FS)
