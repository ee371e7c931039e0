"""Class orders and images by class, for protocols that use all classes of a data set.

Their settings have the fields ``split``, ``test`` and ``val``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmark.errors import InputError
from benchmark.hashing import derive_seed

if TYPE_CHECKING:
    from benchmark.data import ImageSet, Task
    from benchmark.data.image_set import IntArray
    from benchmark.data.task import Split


def class_order(data: ImageSet, purpose: str) -> tuple[int, ...]:
    """Return all classes of a set in one order: the published one of this purpose, or one drawn for all purposes."""
    import numpy as np

    if purpose in data.orders:
        return data.orders[purpose]
    order = np.random.default_rng(derive_seed(0, "class order", data.seed_name)).permutation(len(data.classes))
    return tuple(order.tolist())


def check_validation_split(settings: Any) -> None:
    """Raise ``InputError`` if validation images are to be evaluated and none are held out."""
    if settings.split == "val" and not settings.val:
        raise InputError("protocol.split = val evaluates validation images, of which protocol.val = 0 leaves none")


def split_images(data: ImageSet, settings: Any) -> Mapping[Split, IntArray]:
    """Return the indices of the training, validation and test images of a set."""
    from benchmark.data.task import split_by_group

    return split_by_group(data, test=settings.test, val=settings.val)


def images_by_class(data: ImageSet, settings: Any, split: Split, classes: Sequence[int]) -> dict[int, IntArray]:
    """Return the indices of the images of a split, by class, ascending within one."""
    import numpy as np

    images = split_images(data, settings)[split]
    images = images[np.argsort(data.labels[images], kind="stable")]
    labels = data.labels[images]
    starts, stops = (np.searchsorted(labels, classes, side) for side in ("left", "right"))
    return {c: images[start:stop] for c, start, stop in zip(classes, starts, stops, strict=True)}


def smallest_class(data: ImageSet, settings: Any, classes: Sequence[int]) -> tuple[str, int]:
    """Return name and number of training images of the class that has the fewest."""
    images = images_by_class(data, settings, "train", classes)
    smallest = min(classes, key=lambda c: len(images[c]))
    return data.classes[smallest], len(images[smallest])


def make_task(
    data: ImageSet, settings: Any, classes: tuple[int, ...], train: Mapping[int, IntArray] | None = None
) -> Task:
    """Make a task whose held-out images are those that the settings evaluate.

    Args:
        data: Images.
        settings: Settings of the protocol.
        classes: Classes of the task, in the order of the outputs.
        train: Training images by class; by default all of these classes.
    """
    import numpy as np

    from benchmark.data import Task

    if train is None:
        train = images_by_class(data, settings, "train", classes)
    held_out = images_by_class(data, settings, settings.split, classes)
    return Task(data, classes, np.concatenate([*train.values()]), np.concatenate([*held_out.values()]))
