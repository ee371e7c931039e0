"""What every data set keeps to."""

from __future__ import annotations

import json

import numpy as np

from benchmark.checks.check import Contract, Subject, check_documented, check_light, require
from benchmark.checks.randomness import disturb, untouched
from benchmark.data import ImageSet
from benchmark.data.published import PublishedDataset, data_set, open_data_set
from benchmark.errors import InputError
from benchmark.system.progress import Silent
from protocols import PROTOCOLS

DATASET = Contract("dataset")
_SPLITS = ("train", "val", "test")


def load(subject: Subject) -> ImageSet:
    """What the loader of that name gives."""
    return open_data_set(data_set(subject.name), subject.root, Silent())


@DATASET.rule
def documented(subject: Subject) -> None:
    """Its docstring says what it is."""
    if not isinstance(subject.entry, PublishedDataset):
        check_documented(subject)


@DATASET.rule
def light(subject: Subject) -> None:
    """Importing it imports neither NumPy nor anything else that is slow."""
    if not isinstance(subject.entry, PublishedDataset):
        check_light(subject)


@DATASET.rule
def images(subject: Subject) -> None:
    """It gives an ``ImageSet`` of its own name, with images in every class."""
    data = load(subject)
    require(isinstance(data, ImageSet), f"it gives a {type(data).__name__}, not an ImageSet")
    # a name with fields holds a place of the user's, of which records have the end alone
    parts = (name.partition(":")[0] if subject.fields else name for name in (data.name, subject.name))
    require(len(set(parts)) == 1, f"the name of what it gives is {data.name!r}")
    empty = np.flatnonzero(np.bincount(data.labels, minlength=len(data.classes)) == 0)
    require(not len(empty), f"class {data.classes[empty[0]]!r} has no image" if len(empty) else "")
    require(len(set(data.classes)) == len(data.classes), "two of its classes have one name")
    require(data.images.shape[1] == data.images.shape[2], f"its images are not square: {data.images.shape[1:3]}")
    require(data.images.shape[3] in (1, 3), f"its images have {data.images.shape[3]} channels, not 1 or 3")
    require(0 <= data.background <= 255, f"its background is {data.background}, not a pixel value")


@DATASET.rule
def split(subject: Subject) -> None:
    """Every class stands in one of the splits train, val and test."""
    data = load(subject)
    require(set(data.splits) == set(_SPLITS), f"its splits are {', '.join(data.splits)}, not {', '.join(_SPLITS)}")
    for name in _SPLITS:
        require(len(data.splits[name]) > 0, f"its split {name} has no class")
    chosen = sorted(c for classes in data.splits.values() for c in classes)
    require(chosen == list(range(len(data.classes))), "not every class stands in one split, and in one alone")


@DATASET.rule
def grouped(subject: Subject) -> None:
    """A group is of one class, and equal images of a class are of one group."""
    data = load(subject)
    pairs = np.unique(np.stack([data.groups, data.labels]), axis=1)
    several = pairs[0][np.flatnonzero(np.diff(pairs[0]) == 0)]
    require(not len(several), f"group {several[0]} has images of several classes" if len(several) else "")
    if data.import_info is not None:
        return  # as it was published
    seen: dict[tuple[bytes, int], int] = {}
    for picture, label, group in zip(data.images, data.labels, data.groups, strict=True):
        first = seen.setdefault((picture.tobytes(), int(label)), int(group))
        require(first == group, f"groups {first} and {group} have an image in common: one may be judged on the other")


@DATASET.rule
def same(subject: Subject) -> None:
    """Loaded again it is the same, whatever was drawn before, and it draws from no generator of others."""
    found = []
    for _ in range(2):
        disturb()
        with untouched():
            found.append(load(subject))
    require(found[0].fingerprint == found[1].fingerprint, "loaded twice, it differs")
    facts = found[0].describe()
    require(json.loads(json.dumps(facts)) == facts, "what records say of it is no JSON")


@DATASET.rule
def carries(subject: Subject) -> None:
    """It is large enough for one of the protocols at the least."""
    data = load(subject)
    reasons = [_refusal(name, data) for name in PROTOCOLS.names()]
    require(None in reasons, f"it carries no protocol: {reasons[0]}")


def _refusal(protocol: str, data: ImageSet) -> str | None:
    match = PROTOCOLS.get(protocol)
    try:
        match.entry(protocol, match.entry.Settings(), match.fields).check(data)
    except InputError as error:
        return str(error)
    return None
