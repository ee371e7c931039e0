from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmark.data import ImageSet
from benchmark.data.image_set import ImportInfo
from benchmark.data.task import hold_out
from benchmark.errors import InputError


def make(**changes: Any) -> ImageSet:
    values: dict[str, Any] = {
        "name": "sample",
        "images": np.zeros((6, 4, 4, 3), np.uint8),
        "labels": np.array([0, 0, 1, 1, 2, 2]),
        "groups": np.arange(6),
        "classes": ("a", "b", "c"),
        "splits": {"train": (0, 1), "test": (2,)},
    }
    return ImageSet(**{**values, **changes})


def test_fingerprint_depends_on_every_part() -> None:
    base = make().fingerprint
    assert make().fingerprint == base
    images = np.zeros((6, 4, 4, 3), np.uint8)
    images[3, 2, 1, 0] = 1
    changes: list[dict[str, Any]] = [
        {"images": images}, {"images": np.zeros((6, 4, 3, 4), np.uint8)}, {"labels": np.array([0, 0, 1, 2, 2, 2])},
        {"groups": np.arange(6) // 2}, {"classes": ("a", "b", "d")}, {"splits": {"train": (0,), "test": (2,)}},
    ]  # fmt: skip
    prints = {make(**change).fingerprint for change in changes}
    assert len(prints) == len(changes)
    assert base not in prints


def test_fingerprint_depends_on_orders_official_test_and_import() -> None:
    flags = np.array([False, True] * 3)
    changes: list[dict[str, Any]] = [
        {}, {"orders": {"distillation": (0, 1, 2)}}, {"orders": {"incremental": (0, 1, 2)}},
        {"orders": {"distillation": (2, 1, 0)}}, {"official_test": flags}, {"official_test": ~flags},
        {"import_info": ImportInfo("1234")}, {"import_info": ImportInfo("1235")},
    ]  # fmt: skip
    assert len({make(**change).fingerprint for change in changes}) == len(changes)
    assert (
        make(import_info=ImportInfo("1234", "size=9", {"a": 1}), split_name="x").fingerprint
        == make(import_info=ImportInfo("1234"), images=np.ones((6, 4, 4, 3), np.uint8)).fingerprint
    )


def test_label_and_description_name_variant_and_split() -> None:
    assert make().label == make(import_info=ImportInfo("1234")).label == "sample"
    data = make(
        import_info=ImportInfo("1234", "size=9", {"crop": True}), split_name="half", official_test=np.arange(6) > 3
    )
    assert data.label == "sample+size=9"
    described = data.describe()
    assert {k: described[k] for k in ("split", "official_test_images", "crop")} == {
        "split": "half", "official_test_images": 2, "crop": True,
    }  # fmt: skip
    assert make().describe() == {
        "name": "sample", "split": "sample", "split_hash": described["split_hash"], "official_test_images": 0,
    }  # fmt: skip
    assert make(splits={"train": (1, 0), "test": (2,)}).describe()["split_hash"] == described["split_hash"]
    assert make(splits={"train": (0,), "test": (2,)}).describe()["split_hash"] != described["split_hash"]
    assert make(classes=("a", "b", "d")).describe()["split_hash"] != described["split_hash"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((6, 4, 4, 3), np.float32)}, "uint8"),
        ({"images": np.zeros((6, 4, 4), np.uint8)}, "N x H x W x C"),
        ({"labels": np.zeros(5, np.int64)}, "labels have shape"),
        ({"labels": np.array([0, 0, 1, 1, 2, 3])}, "0..2"),
        ({"splits": {"train": (0, 1), "test": (1,)}}, "share a class"),
        ({"splits": {"train": (7,)}}, "share a class or name one"),
        ({"orders": {"distillation": (0, 1)}}, "order for distillation must name every class once"),
        ({"official_test": np.zeros(5, bool)}, "one flag for each of 6 images"),
        ({"official_test": np.zeros(6, np.int64)}, "one flag for each of 6 images"),
        (
            {"official_test": np.arange(6) > 2, "groups": np.arange(6) // 2},
            "a group has official test images and others",
        ),
    ],
)
def test_image_set_refuses_wrong_parts(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(**change)


def test_indices_and_splits_are_returned() -> None:
    data = make()
    assert data.indices_of([2, 0]).tolist() == [0, 1, 4, 5]
    assert data.split("test") == (2,)
    with pytest.raises(InputError, match="'val'; it has train, test"):
        data.split("val")


def test_hold_out_separates_groups(tiny: ImageSet) -> None:
    task = hold_out(tiny, tiny.splits["train"], 0.25)
    both = np.sort(np.concatenate([task.train, task.held_out]))
    assert both.tolist() == tiny.indices_of(tiny.splits["train"]).tolist()
    assert not set(tiny.groups[task.train]) & set(tiny.groups[task.held_out])
    assert len(task.held_out) == len(both) // 4
    assert set(task.labels(task.train)) == set(range(18))
    assert hold_out(tiny, tiny.splits["train"], 0.25).key == task.key
    assert hold_out(tiny, tiny.splits["train"], 0.2).key != task.key


def test_task_labels_follow_the_order_of_its_classes(tiny: ImageSet) -> None:
    task = hold_out(tiny, (7, 3), 0.1)
    assert set(tiny.labels[task.train[task.labels(task.train) == 0]]) == {7}
    assert set(tiny.labels[task.train[task.labels(task.train) == 1]]) == {3}


def test_hold_out_refuses_a_class_without_training_images() -> None:
    with pytest.raises(InputError, match="'c' has no image left"):
        hold_out(make(groups=np.array([0, 1, 2, 3, 4, 4])), (0, 2), 0.6)
