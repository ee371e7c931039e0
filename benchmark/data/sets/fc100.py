"""FC100: CIFAR-100 split by superclass, for few-shot learning."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from benchmark.data.sets import DATASETS
from benchmark.data.sets.cifar100 import CIFAR100, read_either

if TYPE_CHECKING:
    from benchmark.data.class_splits import ClassSplit
    from benchmark.data.memory_map import MapIndex


def split(index: MapIndex | None = None) -> ClassSplit:
    """Load the split: 60, 20 and 20 classes of 12, 4 and 4 superclasses."""
    from benchmark.data.class_splits import load_class_split

    return load_class_split("fc100")


FC100 = dataclasses.replace(
    CIFAR100,
    name="fc100",
    about="FC100: CIFAR-100 with the classes of 12 / 4 / 4 superclasses (Oreshkin et al. 2018, arXiv 1805.10123).",
    path="the folder of FC100_train.pickle, FC100_val.pickle and FC100_test.pickle, or cifar-100-python",
    holds=("FC100_train.pickle", *CIFAR100.holds),
    read=read_either("FC100", split),
    split=split,
    base=CIFAR100,
)
DATASETS.register("fc100")(FC100)
