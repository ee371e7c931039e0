"""Images by class, for protocols that use all classes of a data set."""

from __future__ import annotations

import dataclasses

import numpy as np

from benchmark.data import ImageSet
from protocols.distillation import Distillation
from protocols.splits import images_by_class, split_images


def test_images_by_class_are_those_of_the_split_in_ascending_order(tiny: ImageSet) -> None:
    shuffled = np.random.default_rng(0).permutation(len(tiny.labels))
    data = dataclasses.replace(tiny, **{name: getattr(tiny, name)[shuffled] for name in ("images", "labels", "groups")})
    settings = Distillation.Settings()
    classes = (29, 3, 17)
    for split in ("train", "val", "test"):
        images = split_images(data, settings)[split]
        found = images_by_class(data, settings, split, classes)
        assert list(found) == list(classes)
        for c in classes:
            assert found[c].tolist() == [i for i in images.tolist() if data.labels[i] == c]
            assert len(found[c])


def test_images_by_class_of_a_class_without_images_are_none(tiny: ImageSet) -> None:
    found = images_by_class(tiny, Distillation.Settings(val=0), "val", (0, 5))
    assert {c: images.tolist() for c, images in found.items()} == {0: [], 5: []}
