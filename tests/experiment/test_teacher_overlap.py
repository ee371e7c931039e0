"""The guard against teachers that know what is judged, whatever the size, crop, split or name of their data."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.backbones.network import Network
from benchmark.backbones.pretrained import Knowledge, Pretrained
from benchmark.data import DATASETS, ImageSet
from benchmark.data.image_hashes import count_copies, image_hashes
from benchmark.errors import DoesNotApply, InputError
from benchmark.experiment.planning import Plan, make_plan
from benchmark.experiment.request import Request
from benchmark.experiment.teacher_overlap import SOURCES, check_overlap
from tests.training.test_pretrained_teachers import save_teacher


def teacher(name: str = "t@12345678", **knows: object) -> Pretrained:
    def load(_: int) -> Network:
        raise AssertionError("loaded")

    return Pretrained(name, "t.pth", "0" * 64, 16, (0.5,), (0.25,), load, Knowledge(**knows))  # type: ignore[arg-type]


def photographs(size: int, name: str, classes: tuple[str, ...], first: int = 0) -> ImageSet:
    """Images of coarse patterns, resized from 48 x 48; ``first`` is the number of the first one."""
    images = []
    for i in range(first, first + 60):
        coarse = np.random.default_rng(i).integers(0, 255, (6, 6, 3), np.uint8)
        whole = Image.fromarray(coarse).resize((48, 48), Image.Resampling.BICUBIC)
        images.append(np.asarray(whole.resize((size, size), Image.Resampling.BICUBIC)))
    count = len(classes)
    return ImageSet(
        name, np.stack(images), np.arange(60) % count, np.arange(60), classes, {"train": tuple(range(count))}
    )


def hashes(data: ImageSet) -> tuple[str, ...]:
    return tuple(each.tobytes().hex() for each in image_hashes(data.images))


CLASSES = ("cat", "dog", "owl")
SMALL = photographs(24, "folder:small", CLASSES)
LARGE = photographs(84, "folder:large", CLASSES)
RENAMED = photographs(32, "folder:other", ("a", "b", "c"))
OTHERS = photographs(84, "folder:others", ("a", "b", "c"), first=1000)
KNOWN = {"fingerprint": SMALL.fingerprint, "dataset": SMALL.name, "classes": CLASSES, "images": hashes(SMALL)}


def test_known_sets_are_all_in_the_table() -> None:
    assert set(DATASETS.built_in_names()) <= set(SOURCES)


@pytest.mark.parametrize(
    ("dataset", "judged", "overlap"),
    [
        ("cifar100", "fc100", True), ("cifar100", "cifar-fs", True), ("fc100", "cifar-fs", True),
        ("imagenet", "miniimagenet", True), ("imagenet", "tieredimagenet", True), ("imagenet", "cub", True),
        ("imagenet", "cub-frn", True), ("miniimagenet", "tieredimagenet", True), ("imagenet", "cifar-fs", False),
        ("cub", "cifar100", False), ("glyphs", "omniglot", False), ("imagenet", "tiny", False),
    ],
)  # fmt: skip
def test_overlaps_of_known_sets_are_in_the_table(dataset: str, judged: str, overlap: bool) -> None:
    data = dataclasses.replace(LARGE, name=judged)
    if not overlap:
        assert check_overlap(teacher(dataset=dataset), data, "none") == "none"
        return
    with pytest.raises(DoesNotApply, match="may know what is judged here") as caught:
        check_overlap(teacher(dataset=dataset), data, "none")
    assert "--set teacher.overlap=allowed" in str(caught.value)
    assert check_overlap(teacher(dataset=dataset), data, "allowed") == "allowed"


@pytest.mark.parametrize("asked", ["none", "unknown"])
@pytest.mark.parametrize(("data", "reason"), [
    (SMALL, "trained on folder:small itself"),
    (LARGE, "60 of 60 images that it was trained on are in folder:large"),
    (RENAMED, "60 of 60 images"),
    (dataclasses.replace(SMALL, splits={"test": (0, 1, 2)}), "classes of the same names"),
    (dataclasses.replace(OTHERS, name="folder:small", classes=CLASSES), "same names .cat, dog, owl"),
])  # fmt: skip
def test_same_images_or_classes_are_found_at_other_sizes_splits_and_names(
    data: ImageSet, reason: str, asked: str
) -> None:
    with pytest.raises(DoesNotApply, match=reason):
        check_overlap(teacher(**KNOWN), data, asked)  # type: ignore[arg-type]


def test_other_images_are_taken_and_what_cannot_be_known_is_said() -> None:
    assert check_overlap(teacher(**KNOWN), OTHERS, "none") == "none"
    assert check_overlap(teacher(**KNOWN), dataclasses.replace(OTHERS, classes=CLASSES), "none") == "unknown"
    assert check_overlap(teacher(), OTHERS, "none") == "unknown"
    assert check_overlap(teacher(), OTHERS, "allowed") == "unknown"
    assert check_overlap(teacher(dataset="imagenet"), OTHERS, "none") == "unknown"
    with pytest.raises(DoesNotApply, match="it has learnt classes of the same names"):
        check_overlap(teacher(classes=CLASSES), LARGE, "none")
    synsets = dataclasses.replace(OTHERS, classes=("n01440764", "n01443537", "n01484850"))
    with pytest.raises(DoesNotApply, match="classes of ImageNet"):
        check_overlap(teacher("efficientnet-lite0"), synsets, "none")


def test_hashes_of_copies_are_alike_and_those_of_other_images_are_not() -> None:
    small, large, others = (image_hashes(data.images) for data in (SMALL, LARGE, OTHERS))
    assert small.shape == (60, 32)
    assert count_copies(small, large) == count_copies(large, small) == 60
    assert count_copies(small, others) == 0
    blank = image_hashes(np.full((5, 16, 16, 1), 255, np.uint8))
    assert count_copies(blank, blank) == 0


def plan(root: Path, weights: Path, *overrides: str) -> Plan:
    settings = (f"teacher.backbone={weights}", *overrides)
    return make_plan(Request("distill-cross", "rkd", "tiny", overrides=settings, limit_steps=2), root)


def test_plan_marks_its_label_and_key(tmp_path: Path, tiny: ImageSet) -> None:
    sure = plan(tmp_path, save_teacher(tmp_path / "sure"))
    assert "overlap" not in sure.label
    assert "overlap" not in sure.spec(0).config()["teacher"]
    unsure = plan(tmp_path, save_teacher(tmp_path / "unsure", dataset=""))
    assert "+teacher.overlap=unknown" in unsure.label
    known = save_teacher(tmp_path / "known", data=tiny.fingerprint)
    with pytest.raises(InputError, match="was trained on tiny itself"):
        plan(tmp_path, known)
    allowed = plan(tmp_path, known, "teacher.overlap=allowed")
    assert "+teacher.overlap=allowed" in allowed.label
    assert allowed.spec(0).config()["teacher"]["overlap"] == "allowed"
    assert len({each.spec(0).key for each in (sure, unsure, allowed)}) == 3
    with pytest.raises(InputError, match=r"teacher\.overlap is for pretrained teachers"):
        make_plan(Request("distill-cross", "rkd", "tiny", overrides=("teacher.overlap=allowed",)), tmp_path)
