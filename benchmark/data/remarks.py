"""What a user should know of a set of images before she trusts a number: copies, and classes of very unequal size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benchmark.data.image_set import ImageSet

STRONG_IMBALANCE = 8
"""Classes are strongly unequal if the largest has at least this many times the images of the smallest."""


def is_unequal(counts: npt.NDArray[np.int64]) -> bool:
    """Return whether classes with so many images are strongly unequal.

    Args:
        counts: K numbers of images, of classes that have some.
    """
    return len(counts) > 1 and int(counts.max()) >= STRONG_IMBALANCE * max(1, int(counts.min()))


def remarks_on(data: ImageSet, names: Sequence[str] = ()) -> list[str]:
    """Return the remarks, one line each.

    Args:
        data: the image set.
        names: N names of the images, for an example; may be empty.
    """
    return [line for line in (_copies(data, names), _imbalance(data)) if line]


def _copies(data: ImageSet, names: Sequence[str]) -> str:
    _, first, group = np.unique(data.groups, return_index=True, return_inverse=True)
    original = first[group]
    copies = np.flatnonzero(original != np.arange(len(original)))
    if not len(copies):
        return ""
    across = copies[data.labels[copies] != data.labels[original[copies]]]
    example = across[0] if len(across) else copies[0]
    as_in = f", as {names[example]} of {names[original[example]]}" if names else ""
    in_others = f", {len(across):,} of them in another class" if len(across) else ""
    kept = "copies stay on one side of every split"
    if data.official_test is not None:
        kept += ", and those of test images are test images"
    return f"{len(copies):,} of {len(original):,} images are copies of others{in_others}{as_in}; {kept}"


def _imbalance(data: ImageSet) -> str:
    counts = np.bincount(data.labels, minlength=len(data.classes))
    if not is_unequal(counts):
        return ""
    fewest, most = int(counts.argmin()), int(counts.argmax())
    return (
        f"classes are strongly unequal: {data.classes[fewest]!r} has {counts[fewest]:,} images, "
        f"{data.classes[most]!r} has {counts[most]:,}; read the mean over classes beside the accuracy"
    )
