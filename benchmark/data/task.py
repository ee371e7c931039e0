"""A classification task over some classes of an image set: which images train, which are held out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Literal

import numpy as np

from benchmark.data.image_set import ImageSet, IntArray
from benchmark.errors import DoesNotApply
from benchmark.hashing import content_key, derive_seed

Split = Literal["train", "val", "test"]


@dataclass(frozen=True, eq=False)
class Task:
    """Images ``train`` and ``held_out`` (indices into ``data``) of ``classes``; no group stands on both sides."""

    data: ImageSet
    classes: tuple[int, ...]
    train: IntArray
    held_out: IntArray

    def labels(self, indices: IntArray) -> IntArray:
        """Position in ``classes`` of each image's class, for images of these classes."""
        position = np.full(len(self.data.classes), -1, np.int64)
        position[list(self.classes)] = np.arange(len(self.classes))
        return position[self.data.labels[indices]]

    @cached_property
    def key(self) -> str:
        """Hash of the data and of what this task takes from it."""
        return content_key([self.data.fingerprint, list(self.classes), self.train.tolist(), self.held_out.tolist()])


def hold_out(data: ImageSet, classes: tuple[int, ...], fraction: float) -> Task:
    """The task over ``classes`` with about ``fraction`` of each class's groups held out, the same for every seed.

    A class that would keep no training image raises ``DoesNotApply``.
    """
    rng = np.random.default_rng(derive_seed(0, "hold out", data.name))
    train, held = [], []
    for c in classes:
        images = data.where([c])
        groups = rng.permutation(np.unique(data.groups[images]))
        away = groups[: round(fraction * len(groups))]
        side = np.isin(data.groups[images], away)
        if side.all():
            raise DoesNotApply(f"data set {data.name}: class {data.classes[c]!r} has no image left to train on")
        train.append(images[~side])
        held.append(images[side])
    return Task(data, classes, np.concatenate(train), np.concatenate(held))


@lru_cache(maxsize=8)
def split_by_group(data: ImageSet, *, test: float, val: float) -> Mapping[Split, IntArray]:
    """Indices of all images on three sides, ascending, the same for every seed.

    ``test`` is the share of each class's groups on the test side, where the set has no official test images: else these
    are the test side. ``val`` is the share of the class's other groups on the validation side, which 0 leaves empty. No
    group stands on two sides. A class without a group on each side raises ``DoesNotApply``.
    """
    ids, group = np.unique(data.groups, return_inverse=True)
    side = np.full(len(ids), -1)
    names: tuple[Split, ...] = ("test", "val", "train")
    official = data.official_test
    if official is not None:
        side[group[official]] = names.index("test")
    for c in range(len(data.classes)):
        own = np.unique(group[data.labels == c])
        free = np.random.default_rng(derive_seed(0, "three sides", data.name, c)).permutation(own[side[own] < 0])
        tested = round(test * len(free)) if official is None else 0
        parts = np.split(free, [tested, tested + round(val * (len(free) - tested))])
        for number, part in enumerate(parts):
            side[part] = number
        if not all(np.any(side[own] == number) for number in range(3) if names[number] != "val" or val > 0):
            shares = f"test = {test}" if official is None else "the official test images"
            raise DoesNotApply(
                f"data set {data.name}: class {data.classes[c]!r} has {len(own)} groups of images, which {shares} "
                f"and val = {val} do not share out to training, validation and test; change these shares"
            )
    sides = {name: np.flatnonzero(side[group] == number) for number, name in enumerate(names)}
    for indices in sides.values():
        indices.flags.writeable = False  # whoever asks again is given the same
    return MappingProxyType(sides)
