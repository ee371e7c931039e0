"""Training batches: which images, in which order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmark.data.imageset import IntArray
from benchmark.errors import InputError
from benchmark.spec import Training


def batches(labels: IntArray, training: Training, seed: int) -> Iterator[IntArray]:
    """Endless batches of positions into ``labels``, the same for the same arguments.

    ``uniform`` walks through random permutations of all images, every image once before any twice; ``balanced``
    takes ``classes_per_batch`` classes and the same number of distinct images of each. A batch that the labels
    cannot fill raises ``InputError``.
    """
    rng = np.random.default_rng(seed)
    if training.sampler == "uniform":
        return _uniform(len(labels), training.batch_size, rng)
    return _balanced(labels, training.batch_size, training.classes_per_batch, rng)


def balanced_walk(labels: IntArray, training: Training, seed: int) -> Iterator[IntArray]:
    """Endless uniform batches of a subset, drawn once, with as many images of each class as the smallest one has."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    fewest = min(map(len, members), default=0)
    subset = np.concatenate([np.sort(rng.permutation(own)[:fewest]) for own in members])
    return (subset[batch] for batch in _uniform(len(subset), training.batch_size, rng))


def _uniform(count: int, size: int, rng: np.random.Generator) -> Iterator[IntArray]:
    if count < 1:
        raise InputError("there is no image to train on")
    queue = np.empty(0, np.int64)
    while True:
        while len(queue) < size:
            queue = np.concatenate([queue, rng.permutation(count)])
        yield queue[:size]
        queue = queue[size:]


def _balanced(labels: IntArray, size: int, classes: int, rng: np.random.Generator) -> Iterator[IntArray]:
    each, remainder = divmod(size, classes)
    if remainder or each < 1:
        raise InputError(
            f"training.batch_size = {size} cannot be shared by training.classes_per_batch = {classes} classes"
        )
    members = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    if len(members) < classes or min(map(len, members)) < each:
        raise InputError(
            f"balanced batches of {classes} classes x {each} images need as many: there are {len(members)} classes, "
            f"the smallest of {min(map(len, members))} images; lower training.classes_per_batch or training.batch_size"
        )
    while True:
        picked = rng.permutation(len(members))[:classes]
        yield np.concatenate([members[c][rng.permutation(len(members[c]))[:each]] for c in picked])
