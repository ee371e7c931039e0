"""Training batches: the order in which images are used."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmark.data.image_set import IntArray
from benchmark.errors import InputError


def batches(
    labels: IntArray, batch_size: int, seed: int, *, classes_per_batch: int | None = None
) -> Iterator[IntArray]:
    """Endless batches of positions into ``labels``, the same for the same arguments.

    Without ``classes_per_batch``, batches follow random permutations of all images: every image once before any twice.

    Args:
        labels: the class of each image (N).
        batch_size: images per batch.
        seed: seed of the order.
        classes_per_batch: classes of a batch, with equally many distinct images of each; None ignores classes.

    Raises:
        InputError: the labels cannot fill a batch.
    """
    rng = np.random.default_rng(seed)
    if classes_per_batch is None:
        return _uniform(len(labels), batch_size, rng)
    return _balanced(labels, batch_size, classes_per_batch, rng)


def balanced_batches(labels: IntArray, batch_size: int, seed: int) -> Iterator[IntArray]:
    """Endless uniform batches of a class-balanced subset. The smallest class sets the number of images per class.

    Args:
        labels: the class of each image (N).
        batch_size: images per batch.
        seed: seed of the subset and of the order.
    """
    rng = np.random.default_rng(seed)
    members = _by_class(labels)
    fewest = min(map(len, members), default=0)
    subset = np.concatenate([np.sort(rng.permutation(positions)[:fewest]) for positions in members])
    return (subset[batch] for batch in _uniform(len(subset), batch_size, rng))


def _uniform(count: int, size: int, rng: np.random.Generator) -> Iterator[IntArray]:
    if count < 1:
        raise InputError("there is no image to train on")
    queue = np.empty(0, np.int64)
    while True:
        while len(queue) < size:
            queue = np.concatenate([queue, rng.permutation(count)])
        yield queue[:size]
        queue = queue[size:]


def _by_class(labels: IntArray) -> list[IntArray]:
    """Return the positions of the images of each class that has some, ascending."""
    counts = np.unique(labels, return_counts=True)[1]
    return np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1]) if len(labels) else []


def _balanced(labels: IntArray, size: int, classes: int, rng: np.random.Generator) -> Iterator[IntArray]:
    each, remainder = divmod(size, classes)
    if remainder or each < 1:
        raise InputError(
            f"training.batch_size = {size} cannot be shared by training.classes_per_batch = {classes} classes"
        )
    members = _by_class(labels)
    if len(members) < classes or min(map(len, members)) < each:
        raise InputError(
            f"balanced batches of {classes} classes x {each} images need as many: there are {len(members)} classes, "
            f"the smallest of {min(map(len, members))} images; lower training.classes_per_batch or training.batch_size"
        )
    while True:
        picked = rng.permutation(len(members))[:classes]
        yield np.concatenate([members[c][rng.permutation(len(members[c]))[:each]] for c in picked])
