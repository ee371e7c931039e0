"""The images, classes and class split of a folder of the user."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.data.class_splits import ClassSplit
from benchmark.data.decoding import image_endings
from benchmark.data.text_files import read_json
from benchmark.errors import InputError, os_reason
from benchmark.hashing import derive_seed

SPLIT_FILE = "splits.json"
PARTS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""The parts of a data set, and the names that their folders may have."""

_SYSTEM = frozenset({
    "__macosx", "@eadir", "lost+found", "system volume information", "$recycle.bin", "thumbs.db", "ehthumbs.db",
    "desktop.ini",
})  # fmt: skip
_NAMED = 10


@dataclass(frozen=True)
class ImageFile:
    """An image file.

    Attributes:
        path: the file.
        part: ``train``, ``val`` or ``test``; empty if the folder has no parts.
        class_name: its class, with letters in Unicode's composed form (NFC).
        size: bytes.
        modified: time of the last change in nanoseconds.
    """

    path: Path
    part: str
    class_name: str
    size: int
    modified: int


@dataclass
class ImageFolder:
    """The files of a folder.

    Attributes:
        source: the folder.
        files: the images, by class, then part, then name.
        left_out: files that are no image of a class, by kind.
        parts: the parts that it has.
    """

    source: Path
    files: list[ImageFile] = field(default_factory=list)
    left_out: dict[str, list[Path]] = field(default_factory=dict)
    parts: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, sorted."""
        return tuple(sorted({file.class_name for file in self.files}))

    def classes_of(self, part: str) -> set[str]:
        """Return the names of the classes of a part."""
        return {file.class_name for file in self.files if file.part == part}

    @property
    def held_out_part(self) -> str:
        """The part whose images are test images: ``test``, else ``val``; empty if parts are no splits of images."""
        held_out = next((part for part in ("test", "val") if part in self.parts), "")
        return held_out if held_out and self.classes_of("train") == self.classes_of(held_out) else ""

    def describe_left_out(self) -> str:
        """Say what is passed over, with the number and an example of each kind; empty if nothing is."""
        kinds = [f"{kind} ({len(paths):,}, as {self.relative(paths[0])})" for kind, paths in self.left_out.items()]
        return f"passed over: {'; '.join(kinds)}" if kinds else ""

    def relative(self, path: Path) -> str:
        """Return a path in the folder as it is named in messages."""
        return path.relative_to(self.source).as_posix()


def read_image_folder(source: Path) -> ImageFolder:
    """List a folder with images at CLASS/IMAGE, or at train/CLASS/IMAGE, val/CLASS/IMAGE and test/CLASS/IMAGE.

    Raises:
        InputError: it cannot be read, has fewer than two classes, or has a class without an image or an image that is
            no plain file.
    """
    folder = ImageFolder(source)
    unreadable: list[str] = []
    empty: list[str] = []
    names: dict[tuple[str, str], Path] = {}
    try:
        parts = _find_parts(source)
        folder.parts = tuple(parts)
        for part, place in parts.items() or [("", source)]:
            for path in _folders(folder, place):
                name = unicodedata.normalize("NFC", path.name)
                if (part, name) in names:
                    raise InputError(f"folders {names[part, name]} and {path} have the same name; rename one of them")
                names[part, name] = path
                count = len(folder.files)
                _read_class(folder, path, part, name, unreadable)
                if len(folder.files) == count:
                    empty.append(folder.relative(path))
        if parts:
            _folders(folder, source)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        place, reason = (error.filename, os_reason(error)) if isinstance(error, OSError) else (source, error)
        raise InputError(f"folder {place} cannot be read ({reason})") from None
    if unreadable:
        raise InputError(
            f"{len(unreadable):,} images of {source} cannot be read: {_some(unreadable)}; replace or remove them, then "
            "repeat the command"
        )
    if empty or len(folder.classes) < 2:
        reason = f"class folder {empty[0]!r} holds no image" if empty else "it has fewer than two class folders"
        more = f" ({len(empty)} folders hold none)" if len(empty) > 1 else ""
        left_out = folder.describe_left_out()
        raise InputError(
            f"{source} is not a set of images: {reason}{more}{left_out and f'; {left_out}'}; put each image at "
            "CLASS/IMAGE in it"
        )
    order = {part: number for number, part in enumerate(["", *PARTS])}
    folder.files.sort(key=lambda file: (file.class_name, order[file.part], file.path.name))
    return folder


def _find_parts(source: Path) -> dict[str, Path]:
    """Return the folders of train, val and test; none if the folders are classes."""
    part_of = {name: part for part, names in PARTS.items() for name in names}
    folders = [Path(entry) for entry in _entries(source) if not _is_system(entry.name) and _is_folder(entry)]
    found = {part_of.get(path.name.lower(), ""): path for path in folders}
    if len(found) < len(folders) or "" in found or "train" not in found or len(found) < 2:
        return {}
    of_classes = all(any(_is_folder(e) for e in _entries(path) if not _is_system(e.name)) for path in folders)
    return {part: found[part] for part in PARTS if part in found} if of_classes else {}


def _folders(folder: ImageFolder, place: Path) -> list[Path]:
    """Return the class folders, or parts, in a folder; note what else is there."""
    folders = []
    for entry in _entries(place):
        path = Path(entry)
        if _is_system(entry.name):
            _leave_out(folder, "hidden or system files", path)
        elif _is_folder(entry):
            folders.append(path)
        elif path != folder.source / SPLIT_FILE:
            _leave_out(folder, "files outside of class folders", path)
    return folders


def _read_class(folder: ImageFolder, place: Path, part: str, name: str, unreadable: list[str]) -> None:
    endings = image_endings()
    for entry in _entries(place):
        path = Path(entry)
        if _is_system(entry.name):
            _leave_out(folder, "hidden or system files", path)
        elif _is_folder(entry):
            for inner, _, names in os.walk(path):
                for each in sorted(names):
                    _leave_out(folder, "files in folders within class folders", Path(inner) / each)
        elif path.suffix.lower() not in endings:
            _leave_out(folder, "files without the ending of an image that can be read", path)
        else:
            try:
                facts = entry.stat()
            except OSError as error:
                reason = "a link to nowhere" if entry.is_symlink() else os_reason(error)
                unreadable.append(f"{folder.relative(path)} ({reason})")
                continue
            if stat.S_ISREG(facts.st_mode):
                folder.files.append(ImageFile(path, part, name, facts.st_size, facts.st_mtime_ns))
            else:
                unreadable.append(f"{folder.relative(path)} (no plain file)")


def _entries(place: Path) -> list[os.DirEntry[str]]:
    with os.scandir(place) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _is_system(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _leave_out(folder: ImageFolder, kind: str, path: Path) -> None:
    folder.left_out.setdefault(kind, []).append(path)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def class_split(folder: ImageFolder) -> ClassSplit:
    """Return the class split: of the split file, else of parts without common classes, else drawn at random.

    A drawn split follows from the names of the classes: 60, 20 and 20 % for training, validation and test.

    Raises:
        InputError: the split file is not of its form, or parts have some of their classes in common.
    """
    path, classes = folder.source / SPLIT_FILE, folder.classes
    if os.path.lexists(path):
        return ClassSplit(SPLIT_FILE, _read_split_file(path, classes))
    if folder.parts and not folder.held_out_part:
        by_part = {part: folder.classes_of(part) for part in PARTS}
        _check_disjoint(by_part, f"{folder.source} has its images in {', '.join(folder.parts)}: either all have the "
                        "same classes, or none shares a class with another; but")  # fmt: skip
        return ClassSplit("folders", {part: tuple(sorted(names)) for part, names in by_part.items()})
    order = np.random.default_rng(derive_seed(0, "class split", *classes)).permutation(len(classes))
    shuffled = [classes[c] for c in order]
    fifth = round(0.2 * len(shuffled))
    val, test, train = shuffled[:fifth], shuffled[fifth : 2 * fifth], shuffled[2 * fifth :]
    return ClassSplit("drawn", {"train": tuple(train), "val": tuple(val), "test": tuple(test)})


def _read_split_file(path: Path, classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    form = f'split file {path} is not {{"train": [class names], "val": [...], "test": [...]}}'
    try:
        values = read_json(path)
    except InputError as error:
        raise InputError(f"{form} ({error})") from None
    if not isinstance(values, dict):
        raise InputError(f"{form} (it is no object)")
    parts = {part: _class_names(values.get(part), f"{form} ({part} is no list of names)") for part in PARTS}
    unknown = [name for names in parts.values() for name in names if name not in classes]
    if unknown:
        more = f" ({len(unknown)} such names)" if len(unknown) > 1 else ""
        raise InputError(f"split file {path} names class {unknown[0]!r}, of which there is no folder{more}")
    _check_disjoint(parts, f"split file {path}:")
    return parts


def _class_names(values: Any, message: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(v, str | int) and not isinstance(v, bool) for v in values):
        raise InputError(message)
    return tuple(unicodedata.normalize("NFC", str(value)) for value in values)


def _check_disjoint(parts: Mapping[str, Iterable[str]], message: str) -> None:
    part_of: dict[str, str] = {}
    for part, names in parts.items():
        for name in names:
            if name in part_of:
                both = f"in {part_of[name]} and in {part}" if part_of[name] != part else f"twice in {part}"
                raise InputError(f"{message} class {name!r} is {both}")
            part_of[name] = part
