"""Images in memory with their labels, classes, groups and class splits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from benchmark.errors import InputError
from benchmark.spec import canonical_json

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """A labelled image collection.

    images: uint8, N x H x W x C; labels: N class indices into ``classes``; groups: N ids, equal for images that are
    near-duplicates of each other (one drawing by two designers, two frames of one scene) and must never stand on
    both sides of a split or an episode; splits: class indices of ``train``, ``val`` and ``test``;
    background: the pixel value that surrounds an image when it is padded; mirrors: whether a mirrored image still
    belongs to its class; orders: the published order of all classes for a purpose (``distillation``, ``incremental``),
    where there is one. A wrong shape, type or label raises ``InputError``.
    """

    name: str
    images: npt.NDArray[np.uint8]
    labels: IntArray
    groups: IntArray
    classes: tuple[str, ...]
    splits: Mapping[str, tuple[int, ...]]
    background: int = 255
    mirrors: bool = False
    orders: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.images)
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise InputError(
                f"data set {self.name}: images must be uint8 N x H x W x C, got {self.images.dtype} {self.images.shape}"
            )
        for part, values in (("labels", self.labels), ("groups", self.groups)):
            if values.shape != (count,):
                raise InputError(f"data set {self.name}: {part} have shape {values.shape}, images are {count}")
        if count == 0 or self.labels.min() < 0 or self.labels.max() >= len(self.classes):
            raise InputError(f"data set {self.name}: labels must lie in 0..{len(self.classes) - 1} and be at least one")
        chosen = [c for classes in self.splits.values() for c in classes]
        if len(set(chosen)) < len(chosen) or not set(chosen) <= set(range(len(self.classes))):
            raise InputError(f"data set {self.name}: splits share a class or name one that is not there")
        for purpose, order in self.orders.items():
            if sorted(order) != list(range(len(self.classes))):
                raise InputError(f"data set {self.name}: the order for {purpose} must name every class once")

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of pixels, labels, groups, classes and splits."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images).tobytes())
        digest.update(self.labels.astype("<i8").tobytes() + self.groups.astype("<i8").tobytes())
        facts = {
            "classes": self.classes,
            "splits": {k: list(v) for k, v in self.splits.items()},
            "shape": self.images.shape,
        }
        digest.update(canonical_json(facts).encode())
        return digest.hexdigest()

    def where(self, classes: Iterable[int]) -> IntArray:
        """Indices of the images of ``classes``, ascending."""
        return np.flatnonzero(np.isin(self.labels, np.fromiter(classes, np.int64)))

    def split(self, name: str) -> tuple[int, ...]:
        """Class indices of a split; a missing or empty one raises ``InputError``."""
        if not self.splits.get(name):
            raise InputError(f"data set {self.name} has no classes in split {name!r}; it has {', '.join(self.splits)}")
        return self.splits[name]
