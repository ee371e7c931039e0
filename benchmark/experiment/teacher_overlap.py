"""Whether a pretrained teacher may know what a run judges: by a table of known data sets, classes, and images."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from benchmark.data import ImageSet
from benchmark.errors import DoesNotApply

if TYPE_CHECKING:
    from benchmark.backbones.pretrained import Pretrained

Overlap = Literal["none", "unknown", "allowed"]

SOURCES = {
    "imagenet": "ImageNet",
    "miniimagenet": "ImageNet",
    "tieredimagenet": "ImageNet",
    "cub": "ImageNet", "cub-closerlook": "ImageNet", "cub-frn": "ImageNet", "cub-feat": "ImageNet",
    "cub-metadataset": "ImageNet",
    "cifar100": "CIFAR-100", "cifar-fs": "CIFAR-100", "fc100": "CIFAR-100",
    "omniglot": "Omniglot", "glyphs": "glyphs", "emoji": "emoji", "tiny": "tiny",
}  # fmt: skip
"""Where the images of known data sets come from. CUB counts as ImageNet: its authors warn that ImageNet has some of its
photographs (Wah et al. 2011)."""

_TRAINED_ON = {"efficientnet-lite0": "imagenet"}
"""The data of pretrained teachers that have no file of the user."""

_SYNSET = re.compile(r"n\d{8}")
"""A class of ImageNet, as its folders are called."""

_COPIES, _SHARE = 3, 0.01
"""So many copies, and so great a share of the compared images, are no chance."""


def check_overlap(teacher: Pretrained, data: ImageSet, asked: Overlap) -> Overlap:
    """Return what tables say of a teacher and the images that judge its students.

    Args:
        teacher: the pretrained teacher.
        data: the data set of the run.
        asked: ``allowed`` accepts an overlap.

    Returns:
        ``none``, ``unknown`` if it cannot be known, or ``allowed`` for an overlap that was asked for.

    Raises:
        DoesNotApply: there is an overlap, and it is not allowed.
    """
    reason = _overlap(teacher, data)
    if reason is None or reason == "":
        return "none" if reason is None else "unknown"
    if asked != "allowed":
        raise DoesNotApply(
            f"teacher {teacher.name} may know what is judged here: {reason}; without --teacher a run trains its own, "
            "and --set teacher.overlap=allowed takes this one and marks its rows"
        )
    return "allowed"


def _overlap(teacher: Pretrained, data: ImageSet) -> str | None:
    """Return the reason to believe in an overlap, "" if it cannot be known, None if there is none."""
    knows = teacher.knows
    if knows.fingerprint == data.fingerprint:
        return f"it was trained on {data.name} itself"
    dataset = knows.dataset or _TRAINED_ON.get(teacher.name, "")
    learnt, judged = SOURCES.get(dataset), SOURCES.get(data.name)
    if learnt and judged:
        return f"{dataset} and {data.name} have images of {learnt} in common" if learnt == judged else None
    if learnt == "ImageNet" and any(_SYNSET.fullmatch(name) for name in data.classes):
        return f"{data.name} has classes of ImageNet, on which it was trained"
    shared = sorted(set(knows.classes) & set(data.classes))
    if shared and (not knows.images or dataset == data.name):
        return f"it has learnt classes of the same names ({', '.join(shared[:3])}{', ...' * (len(shared) > 3)})"
    if not knows.images:
        return ""
    copies, compared = _copies(knows.images, data)
    if copies >= max(_COPIES, _SHARE * compared):
        return f"{copies} of {compared} images that it was trained on are in {data.name}, maybe at another size"
    return "" if shared else None


def _copies(hashes: tuple[str, ...], data: ImageSet) -> tuple[int, int]:
    import numpy as np

    from benchmark.data.image_hashes import count_copies, image_hashes

    known = np.array([list(bytes.fromhex(each)) for each in hashes], np.uint8)
    return count_copies(known, image_hashes(data.images)), len(known)
