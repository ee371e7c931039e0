from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmark.data import ImageSet
from benchmark.data.task import hold_out, split_by_group
from benchmark.errors import InputError


def test_split_by_group_has_every_image_once_and_separates_groups(tiny: ImageSet) -> None:
    """12 groups of 2 images per class: 0.4 of them are 5 for test, 0.2 of the other 7 is 1 for validation."""
    sides = split_by_group(tiny, test=0.4, val=0.2)
    assert sorted(np.concatenate(list(sides.values()))) == list(range(len(tiny.labels)))
    for name, groups in (("test", 5), ("val", 1), ("train", 6)):
        side = sides[name]  # type: ignore[index]
        assert (np.diff(side) > 0).all()
        assert np.bincount(tiny.labels[side]).tolist() == [2 * groups] * 30
        others = np.concatenate([images for other, images in sides.items() if other != name])
        assert not set(tiny.groups[side]) & set(tiny.groups[others])


def test_split_by_group_depends_on_name_and_shares_alone(tiny: ImageSet) -> None:
    base = split_by_group(tiny, test=0.4, val=0.2)
    negative = split_by_group(dataclasses.replace(tiny, images=255 - tiny.images), test=0.4, val=0.2)
    assert all(np.array_equal(images, negative[name]) for name, images in base.items())
    assert not np.array_equal(base["test"], split_by_group(tiny, test=0.5, val=0.2)["test"])
    more = split_by_group(tiny, test=0.4, val=0.5)
    assert np.array_equal(base["test"], more["test"])
    assert set(base["val"]) < set(more["val"])


def test_split_by_group_keeps_a_group_of_two_classes_together(tiny: ImageSet) -> None:
    groups = tiny.groups.copy()
    first, second = (np.unique(tiny.groups[tiny.labels == c]) for c in (0, 1))
    for a, b in zip(first[:6], second[:6], strict=True):
        groups[groups == b] = a
    sides = split_by_group(dataclasses.replace(tiny, groups=groups), test=0.4, val=0.2)
    train, val, test = (set(groups[sides[name]]) for name in ("train", "val", "test"))
    assert not (train & val) | (train & test) | (val & test)
    for name, images in split_by_group(tiny, test=0.4, val=0.2).items():
        of_first = sides[name][tiny.labels[sides[name]] == 0]
        assert of_first.tolist() == images[tiny.labels[images] == 0].tolist()


def test_split_by_group_uses_official_test_images(tiny: ImageSet) -> None:
    """In place of a share of each class's groups; the others are shared out to training and validation."""
    flags = tiny.groups % 12 < 3
    data = dataclasses.replace(tiny, official_test=flags)
    for test in (0.1, 0.9):
        sides = split_by_group(data, test=test, val=0.34)
        assert sides["test"].tolist() == np.flatnonzero(flags).tolist()
        assert np.bincount(tiny.labels[sides["val"]]).tolist() == [2 * 3] * 30
        assert np.bincount(tiny.labels[sides["train"]]).tolist() == [2 * 6] * 30
        assert not set(tiny.groups[sides["val"]]) & set(tiny.groups[sides["train"]])
    with pytest.raises(
        InputError, match=rf"{tiny.classes[7]!r} .* which the official test images and val = 0\.2 do not"
    ):
        split_by_group(dataclasses.replace(tiny, official_test=flags & (tiny.labels != 7)), test=0.4, val=0.2)


def test_split_by_group_without_validation_trains_on_the_rest(tiny: ImageSet) -> None:
    sides = split_by_group(tiny, test=0.4, val=0)
    assert len(sides["val"]) == 0
    assert sides["test"].tolist() == split_by_group(tiny, test=0.4, val=0.2)["test"].tolist()
    assert sorted([*sides["train"], *sides["test"]]) == list(range(len(tiny.labels)))


def test_split_by_group_refuses_a_class_of_too_few_groups(tiny: ImageSet) -> None:
    groups = tiny.groups.copy()
    groups[tiny.labels == 4] %= 2
    groups[tiny.labels == 4] += groups.max() + 1
    with pytest.raises(InputError, match=rf"{tiny.classes[4]!r} has 2 groups of images, which test = 0\.4"):
        split_by_group(dataclasses.replace(tiny, groups=groups), test=0.4, val=0.2)


def test_hold_out_leaves_copies_of_judged_images_out_of_training(tiny: ImageSet) -> None:
    """An image of a training class has a copy in a test class, and one a copy in another training class."""
    base = tiny.splits["train"]
    plain = hold_out(tiny, base, 0.25)
    groups = tiny.groups.copy()
    copied = plain.train[0]
    groups[tiny.groups == groups[copied]] = groups[tiny.indices_of(tiny.splits["test"])[0]]
    held = plain.held_out[-1]
    second = plain.train[tiny.labels[plain.train] == base[1]][0]
    groups[tiny.groups == tiny.groups[second]] = groups[held]
    data = dataclasses.replace(tiny, groups=groups)
    task = hold_out(data, base, 0.25)
    novel = data.groups[np.flatnonzero(~np.isin(data.labels, base))]
    assert not set(data.groups[task.train]) & {*data.groups[task.held_out], *novel}
    assert len(task.train) < len(plain.train)
    everything = dataclasses.replace(tiny, groups=np.zeros_like(tiny.groups))
    with pytest.raises(InputError, match="has no image left to train on"):
        hold_out(everything, base, 0.25)


def test_hold_out_of_sets_without_copies_is_a_share_of_each_class(tiny: ImageSet) -> None:
    task = hold_out(tiny, tiny.splits["train"], 0.25)
    assert np.bincount(tiny.labels[task.held_out])[:18].tolist() == [6] * 18
    assert sorted([*task.train, *task.held_out]) == tiny.indices_of(tiny.splits["train"]).tolist()
