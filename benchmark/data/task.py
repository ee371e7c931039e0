"""Classification tasks over some classes of an image set: training images and held-out images."""

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
    """Training and held-out images of some classes. No group has images in both.

    Attributes:
        data: the image set.
        classes: K class indices of ``data``. Their order numbers the labels of the task.
        train: indices of the training images.
        held_out: indices of the held-out images.
    """

    data: ImageSet
    classes: tuple[int, ...]
    train: IntArray
    held_out: IntArray

    def labels(self, indices: IntArray) -> IntArray:
        """Return the labels of images of this task: positions in ``classes``.

        Args:
            indices: B indices of images of ``classes``.
        """
        position = np.full(len(self.data.classes), -1, np.int64)
        position[list(self.classes)] = np.arange(len(self.classes))
        return position[self.data.labels[indices]]

    @cached_property
    def key(self) -> str:
        """Hash of the data's fingerprint, the classes and both sets of images."""
        return content_key([self.data.fingerprint, list(self.classes), self.train.tolist(), self.held_out.tolist()])


def hold_out(data: ImageSet, classes: tuple[int, ...], fraction: float) -> Task:
    """Hold out a share of each class's groups. The result does not depend on a seed.

    Copies of held-out images, and of images of other classes of the set, are left out of training.

    Args:
        data: the image set.
        classes: class indices of the task.
        fraction: share of each class's groups to hold out, in [0, 1].

    Raises:
        DoesNotApply: a class keeps no training image.
    """
    rng = np.random.default_rng(derive_seed(0, "hold out", data.seed_name))
    train, held_out = [], []
    for c in classes:
        images = data.indices_of([c])
        groups = rng.permutation(np.unique(data.groups[images]))
        is_held_out = np.isin(data.groups[images], groups[: round(fraction * len(groups))])
        train.append(images[~is_held_out])
        held_out.append(images[is_held_out])
    others = np.flatnonzero(~np.isin(data.labels, classes))
    judged = np.unique(data.groups[np.concatenate([*held_out, others])])
    train = [images[~np.isin(data.groups[images], judged)] for images in train]
    for c, images in zip(classes, train, strict=True):
        if not len(images):
            raise DoesNotApply(f"data set {data.name}: class {data.classes[c]!r} has no image left to train on")
    return Task(data, classes, np.concatenate(train), np.concatenate(held_out))


@lru_cache(maxsize=8)
def split_by_group(data: ImageSet, *, test: float, val: float) -> Mapping[Split, IntArray]:
    """Split all images into training, validation and test. The result does not depend on a seed.

    No group has images in two splits.

    Args:
        data: the image set.
        test: share of each class's groups for test, in [0, 1]. Unused if the set has official test images.
        val: share of each class's remaining groups for validation, in [0, 1]; 0 leaves validation empty.

    Returns:
        Ascending image indices of ``train``, ``val`` and ``test``; the arrays are read-only.

    Raises:
        DoesNotApply: a class has too few groups for all splits.
    """
    group_ids, group = np.unique(data.groups, return_inverse=True)
    split_of = np.full(len(group_ids), -1)
    names: tuple[Split, ...] = ("test", "val", "train")
    official = data.official_test
    if official is not None:
        split_of[group[official]] = names.index("test")
    for c in range(len(data.classes)):
        class_groups = np.unique(group[data.indices_of([c])])
        rng = np.random.default_rng(derive_seed(0, "three sides", data.seed_name, c))
        free = rng.permutation(class_groups[split_of[class_groups] < 0])
        tested = round(test * len(free)) if official is None else 0
        parts = np.split(free, [tested, tested + round(val * (len(free) - tested))])
        for number, part in enumerate(parts):
            split_of[part] = number
        needed = [number for number, name in enumerate(names) if name != "val" or val > 0]
        if not all(np.any(split_of[class_groups] == number) for number in needed):
            shares = f"test = {test}" if official is None else "the official test images"
            raise DoesNotApply(
                f"data set {data.name}: class {data.classes[c]!r} has {len(class_groups)} groups of images, which "
                f"{shares} and val = {val} do not share out to training, validation and test; change these shares"
            )
    splits = {name: np.flatnonzero(split_of[group] == number) for number, name in enumerate(names)}
    for indices in splits.values():
        indices.flags.writeable = False  # the cache returns the same arrays to every caller
    return MappingProxyType(splits)
