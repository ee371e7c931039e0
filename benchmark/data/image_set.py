"""Images in memory with their labels, classes, groups and class splits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmark.errors import DoesNotApply, InputError
from benchmark.hashing import canonical_json, content_key

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ImportInfo:
    """How an imported set was made.

    Attributes:
        pixels: hash of all images, so that a fingerprint does not read them.
        variant: import settings that are not the defaults, such as ``size=224``.
        facts: crop, resize policy and source files, for the record.
        own: True if the set is a folder of the user.
    """

    pixels: str
    variant: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    own: bool = False


@dataclass(frozen=True, eq=False)
class ImageSet:
    """A labelled image collection.

    Attributes:
        name: the set's name.
        images: uint8, N x H x W x C, in memory or mapped from a file.
        labels: N class indices into ``classes``.
        groups: N ids. Near-duplicates share one (one drawing by two designers, two frames of one scene). A group never
            lies on both sides of a split or an episode.
        classes: names of the classes.
        splits: class indices of ``train``, ``val`` and ``test``.
        background: pixel value that pads an image, 0..255.
        flip_invariant: True if a mirrored image still belongs to its class.
        orders: published order of all classes by purpose (``distillation``, ``incremental``).
        official_test: N flags of the published test images; None if there are none.
        split_name: name of ``splits``; empty is the set's own name.
        import_info: how an imported set was made; None for other sets.

    Raises:
        InputError: a shape, type or label is wrong.
    """

    name: str
    images: npt.NDArray[np.uint8]
    labels: IntArray
    groups: IntArray
    classes: tuple[str, ...]
    splits: Mapping[str, tuple[int, ...]]
    background: int = 255
    flip_invariant: bool = False
    orders: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    official_test: npt.NDArray[np.bool_] | None = None
    split_name: str = ""
    import_info: ImportInfo | None = None

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
            raise InputError(f"data set {self.name}: it needs images whose labels lie in 0..{len(self.classes) - 1}")
        chosen = [c for classes in self.splits.values() for c in classes]
        if len(set(chosen)) < len(chosen) or not set(chosen) <= set(range(len(self.classes))):
            raise InputError(f"data set {self.name}: splits share a class or name one that does not exist")
        for purpose, order in self.orders.items():
            if sorted(order) != list(range(len(self.classes))):
                raise InputError(f"data set {self.name}: the order for {purpose} must name every class once")
        if self.official_test is not None:
            if self.official_test.shape != (count,) or self.official_test.dtype != np.bool_:
                raise InputError(f"data set {self.name}: official_test must be one flag for each of {count} images")
            if np.isin(self.groups[self.official_test], self.groups[~self.official_test]).any():
                raise InputError(f"data set {self.name}: a group has official test images and others")

    @property
    def label(self) -> str:
        """The name in records: the set's name and, after ``+``, the variant of its import.

        A folder of the user has the first digits of its fingerprint between the two.
        """
        info = self.import_info
        if info is None:
            return self.name
        return "+".join(filter(None, (self.name, self.fingerprint[:8] if info.own else "", info.variant)))

    @property
    def seed_name(self) -> str:
        """The name that random streams depend on. Folders of the user share one: what they are called cannot matter."""
        return "folder" if self.import_info is not None and self.import_info.own else self.name

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of pixels (of their recorded hash, if imported), labels, groups, classes, splits and orders."""
        info = self.import_info
        pixels = np.ascontiguousarray(self.images).tobytes() if info is None else info.pixels.encode()
        digest = hashlib.sha256(pixels)
        digest.update(self.labels.astype("<i8").tobytes() + self.groups.astype("<i8").tobytes())
        facts: dict[str, Any] = {
            "classes": self.classes,
            "splits": {k: list(v) for k, v in self.splits.items()},
            "shape": self.images.shape,
        }
        if self.orders:
            facts["orders"] = {purpose: list(order) for purpose, order in self.orders.items()}
        if self.official_test is not None:
            facts["official_test"] = hashlib.sha256(self.official_test.tobytes()).hexdigest()
        digest.update(canonical_json(facts).encode())
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """Facts for a record: name, class split and its hash, number of official test images, import facts."""
        split = {name: sorted(self.classes[c] for c in classes) for name, classes in self.splits.items()}
        return {
            "name": self.name,
            "split": self.split_name or self.name,
            "split_hash": content_key(split),
            "official_test_images": 0 if self.official_test is None else int(self.official_test.sum()),
            **(self.import_info.facts if self.import_info is not None else {}),
        }

    def indices_of(self, classes: Iterable[int]) -> IntArray:
        """Return the indices of all images of ``classes``, ascending."""
        parts = [self._by_class[c] for c in dict.fromkeys(classes) if 0 <= c < len(self.classes)]
        return np.sort(np.concatenate([np.empty(0, np.int64), *parts]))

    @cached_property
    def _by_class(self) -> list[IntArray]:
        """The indices of the images of each class, ascending."""
        order = np.argsort(self.labels, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.labels, minlength=len(self.classes)))[:-1])

    def split(self, name: str) -> tuple[int, ...]:
        """Return the class indices of a split.

        Raises:
            DoesNotApply: the split is missing or empty.
        """
        if not self.splits.get(name):
            raise DoesNotApply(
                f"data set {self.name} has no classes in split {name!r}; it has {', '.join(self.splits)}"
            )
        return self.splits[name]
