"""Checks of data sets."""

from __future__ import annotations

import json

import numpy as np

from benchmark.checks.check import Candidate, CheckSuite, require, require_documentation, require_light_import
from benchmark.checks.randomness import advance_global_generators, global_generators_unchanged
from benchmark.data import ImageSet
from benchmark.data.published import PublishedDataset, data_set, open_data_set
from benchmark.errors import InputError
from benchmark.system.progress import Silent
from protocols import PROTOCOLS

DATASET_CHECKS = CheckSuite("dataset")
_SPLITS = ("train", "val", "test")


def _load(candidate: Candidate) -> ImageSet:
    return open_data_set(data_set(candidate.name), candidate.root, Silent())


@DATASET_CHECKS.register
def is_documented(candidate: Candidate) -> None:
    """Its docstring describes it."""
    if not isinstance(candidate.entry, PublishedDataset):
        require_documentation(candidate)


@DATASET_CHECKS.register
def imports_nothing_heavy(candidate: Candidate) -> None:
    """Importing its module imports neither NumPy nor another slow package."""
    if not isinstance(candidate.entry, PublishedDataset):
        require_light_import(candidate)


@DATASET_CHECKS.register
def is_a_valid_image_set(candidate: Candidate) -> None:
    """It returns an ``ImageSet`` of its own name, with images in every class."""
    data = _load(candidate)
    require(isinstance(data, ImageSet), f"it returns a {type(data).__name__}, not an ImageSet")
    # a name with fields holds a path of the user; records keep the last part of it only
    names = {name.partition(":")[0] if candidate.fields else name for name in (data.name, candidate.name)}
    require(len(names) == 1, f"the name of its ImageSet is {data.name!r}")
    empty = np.flatnonzero(np.bincount(data.labels, minlength=len(data.classes)) == 0)
    require(not len(empty), f"class {data.classes[empty[0]]!r} has no image" if len(empty) else "")
    require(len(set(data.classes)) == len(data.classes), "two of its classes have the same name")
    require(data.images.shape[1] == data.images.shape[2], f"its images are not square: {data.images.shape[1:3]}")
    require(data.images.shape[3] in (1, 3), f"its images have {data.images.shape[3]} channels, not 1 or 3")
    require(0 <= data.background <= 255, f"its background is {data.background}, not a pixel value")


@DATASET_CHECKS.register
def splits_partition_classes(candidate: Candidate) -> None:
    """Every class is in exactly one of the splits train, val and test."""
    data = _load(candidate)
    require(set(data.splits) == set(_SPLITS), f"its splits are {', '.join(data.splits)}, not {', '.join(_SPLITS)}")
    for name in _SPLITS:
        require(len(data.splits[name]) > 0, f"its split {name} has no class")
    classes = sorted(c for split in data.splits.values() for c in split)
    require(classes == list(range(len(data.classes))), "not every class is in exactly one split")


@DATASET_CHECKS.register
def groups_are_consistent(candidate: Candidate) -> None:
    """All images of a group have the same class, and equal images of a class are in the same group."""
    data = _load(candidate)
    pairs = np.unique(np.stack([data.groups, data.labels]), axis=1)
    mixed = pairs[0][np.flatnonzero(np.diff(pairs[0]) == 0)]
    require(not len(mixed), f"group {mixed[0]} has images of several classes" if len(mixed) else "")
    if data.import_info is not None:
        return  # an imported set stays as it was published
    group_of: dict[tuple[bytes, int], int] = {}
    for image, label, group in zip(data.images, data.labels, data.groups, strict=True):
        first = group_of.setdefault((image.tobytes(), int(label)), int(group))
        require(
            first == group,
            f"groups {first} and {group} share an image, which could be both in training and in evaluation",
        )


@DATASET_CHECKS.register
def loads_identically(candidate: Candidate) -> None:
    """It is the same each time it is loaded, and loading leaves global generators unchanged."""
    loaded = []
    for _ in range(2):
        advance_global_generators()
        with global_generators_unchanged():
            loaded.append(_load(candidate))
    require(loaded[0].fingerprint == loaded[1].fingerprint, "loaded twice, it differs")
    description = loaded[0].describe()
    require(json.loads(json.dumps(description)) == description, "its description for records is not valid JSON")


@DATASET_CHECKS.register
def supports_a_protocol(candidate: Candidate) -> None:
    """It is large enough for at least one protocol."""
    data = _load(candidate)
    refusals = [_refusal(name, data) for name in PROTOCOLS.names()]
    require(None in refusals, f"no protocol accepts it: {refusals[0]}")


def _refusal(name: str, data: ImageSet) -> str | None:
    protocol = PROTOCOLS.get(name)
    try:
        protocol.entry(name, protocol.entry.Settings(), protocol.fields).check(data)
    except InputError as error:
        return str(error)
    return None
