from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from benchmark.data.sampling import balanced_batches, batches
from benchmark.errors import InputError

LABELS = np.repeat(np.arange(6), 10)


def test_batches_use_every_image_once_an_epoch() -> None:
    drawn = np.concatenate(list(islice(batches(LABELS, 16, 3), 15)))
    for epoch in range(4):
        assert sorted(drawn[60 * epoch : 60 * (epoch + 1)]) == list(range(60))


def test_batches_by_class_have_equally_many_images_of_each_class() -> None:
    for batch in islice(batches(LABELS, 12, 3, classes_per_batch=4), 30):
        assert len(set(batch)) == 12
        assert sorted(np.unique(LABELS[batch], return_counts=True)[1]) == [3, 3, 3, 3]


@pytest.mark.parametrize("classes", [None, 4])
def test_batches_depend_on_the_seed(classes: int | None) -> None:

    def draw(seed: int) -> list[list[int]]:
        return [b.tolist() for b in islice(batches(LABELS, 12, seed, classes_per_batch=classes), 5)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_batches_can_be_larger_than_the_data() -> None:
    batch = next(batches(LABELS[:5], 16, 0))
    assert len(batch) == 16


@pytest.mark.parametrize(
    ("labels", "size", "classes", "message"),
    [
        (LABELS, 10, 4, "cannot be shared"),
        (LABELS, 14, 7, "there are 6 classes"),
        (LABELS, 24, 2, "smallest of 10 images"),
    ],
)
def test_batches_that_cannot_be_filled_are_refused(labels: np.ndarray, size: int, classes: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        next(batches(labels, size, 0, classes_per_batch=classes))
    with pytest.raises(InputError, match="no image"):
        next(batches(labels[:0], size, 0))


def test_balanced_batches_use_equally_many_images_of_each_class() -> None:
    labels = np.repeat([0, 1, 4], [3, 50, 20])
    walk = balanced_batches(labels, 9, seed=0)
    seen = np.concatenate([next(walk) for _ in range(5)])
    assert np.bincount(labels[seen], minlength=5).tolist() == [15, 15, 0, 0, 15]
    assert len(np.unique(seen)) == 9
    again = balanced_batches(labels, 9, seed=0)
    assert np.array_equal(seen[:9], next(again))
