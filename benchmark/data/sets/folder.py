"""Any folder with one subfolder of images for each class, and imports of such folders, found by their fingerprint."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.data.published import PublishedDataset, ResizeSettings, text_of
from benchmark.data.sets import DATASETS
from benchmark.errors import InputError
from benchmark.hashing import content_key
from benchmark.system.files import expand_user
from benchmark.system.progress import Progress, Silent

if TYPE_CHECKING:
    from benchmark.data.class_splits import ClassSplit
    from benchmark.data.image_folder import ImageFolder
    from benchmark.data.importing import ImageList
    from benchmark.data.memory_map import MapIndex

_RULES = 2
"""Rises when the same files are imported as other pixels, groups or splits than before."""

_IMPORTED = re.compile(r"(?:.*\+)?([0-9a-f]{8,64})(?:\+[a-z_]+=[^+/]*)*", re.DOTALL)
"""The name of an import after ``folder:``: the folder's name, digits of its fingerprint, settings."""


def _split(index: MapIndex) -> ClassSplit:
    from benchmark.data.class_splits import ClassSplit

    own = index.own or {}
    return ClassSplit(own["split"], {part: tuple(names) for part, names in own["classes"].items()})


@dataclass(frozen=True, kw_only=True)
class Folder(PublishedDataset):
    """A folder of the user. It is imported on first use, and again if its files have changed.

    Attributes:
        source: the folder.
    """

    source: Path

    @cached_property
    def content(self) -> ImageFolder:
        """The files of the folder.

        Raises:
            InputError: it cannot be read or is no set of images.
        """
        from benchmark.data.image_folder import read_image_folder

        return read_image_folder(self.source)

    @cached_property
    def class_split(self) -> ClassSplit:
        """The class split of the folder."""
        from benchmark.data.image_folder import class_split

        return class_split(self.content)

    def image_list(self, settings: Any) -> ImageList:
        """Return the images before they are decoded."""
        import numpy as np

        from benchmark.data.image_format import ImageFormat
        from benchmark.data.importing import ImageList

        files, classes, split = self.content.files, self.content.classes, self.class_split
        position = {name: c for c, name in enumerate(classes)}
        held_out = self.content.held_out_part
        return ImageList(
            [file.path for file in files],
            np.array([position[file.class_name] for file in files], np.int64),
            classes,
            ImageFormat(settings.size, resize=settings.resize, upright=True),
            official_test=np.array([file.part == held_out for file in files]) if held_out else None,
            own={"path": str(self.source), "split": split.name, "classes": dict(split.classes)},
        )

    @cached_property
    def files_hash(self) -> str:
        """Hash of the class split and of names, sizes and modification times of all image files."""
        content, split = self.content, self.class_split
        files = [[content.relative(file.path), file.size, file.modified] for file in content.files]
        return content_key([_RULES, files, split.name, {part: list(names) for part, names in split.classes.items()}])

    def import_folder(self, root: Path) -> Path:
        """Return the folder of the import. It is named after the files, so that a moved folder finds its import."""
        name = "".join(letter if letter.isprintable() else "_" for letter in self.source.name[:40])
        return root / "sets" / f"folder-{name}-{self.files_hash[:12]}"

    def require_import(self, root: Path, progress: Progress) -> Path:
        """Return the folder of the import; import the set if that is missing, with the settings of its last import."""
        from benchmark.data.dataset_store import default_workers, import_dataset

        if self.find_import(root) is None:
            earlier = [index for _, index in own_imports(root) if (index.own or {})["path"] == str(self.source)]
            values = {**(earlier[-1].settings if earlier else {}), **self.needs}
            settings = {name: text_of(value) for name, value in values.items()}
            if earlier and not self.import_folder(root).exists():
                progress.say(f"{self.name} has changed since its import: it is imported again")
            import_dataset(self, root, None, settings, workers=default_workers(), progress=progress)
        return self.import_folder(root)

    def remarks(self, import_folder: Path) -> list[str]:
        """Return what is passed over in the folder, which images are copies, and whether classes are unequal."""
        from benchmark.data.memory_map import open_mapped
        from benchmark.data.remarks import remarks_on

        names = [self.content.relative(file.path) for file in self.content.files]
        of_images = remarks_on(self.image_set(open_mapped(import_folder)), names)
        return [line for line in [self.content.describe_left_out(), *of_images] if line]

    @property
    def typed_name(self) -> str:
        """The name with the whole path, which means the same in every working directory."""
        return f"folder:{self.source}"

    def state(self, root: Path) -> str:
        """Return ``imported when used``."""
        return "imported when used"

    def source_path(self, root: Path, from_path: Path | None) -> Path:
        """Return the folder itself; ``--from`` is refused."""
        if from_path is not None:
            raise InputError(f"--from does not go with {self.name}: the name says where it is")
        return self.source

    def locate(self, source: Path) -> Path | None:
        """Return ``source``."""
        return source


@dataclass(frozen=True, kw_only=True)
class ImportedFolder(PublishedDataset):
    """The import of a folder of the user. Its fingerprint finds it in the data root, wherever the folder is now.

    Attributes:
        digits: the first digits of the fingerprint.
    """

    digits: str

    def find_import(self, root: Path) -> Path | None:
        """Return the folder of the import; None if there is none."""
        return next((folder for folder, index in own_imports(root) if self._fits(folder, index)), None)

    def _fits(self, folder: Path, index: MapIndex) -> bool:
        from benchmark.data.memory_map import open_mapped

        return self.image_set(open_mapped(folder)).fingerprint.startswith(self.digits)

    def require_import(self, root: Path, progress: Progress) -> Path:
        """Return the folder of the import.

        Raises:
            InputError: no import has this fingerprint.
        """
        folder = self.find_import(root)
        if folder is None:
            raise InputError(
                f"{self.name} is neither a folder here nor an import in {root / 'sets'}; name the folder of its images "
                "with --dataset folder:PATH"
            )
        return folder

    def import_folder(self, root: Path) -> Path:
        """Return the folder of the import, which must be there."""
        return self.require_import(root, Silent())

    def remarks(self, import_folder: Path) -> list[str]:
        """Return which images are copies, and whether classes are unequal."""
        from benchmark.data.memory_map import open_mapped
        from benchmark.data.remarks import remarks_on

        return remarks_on(self.image_set(open_mapped(import_folder)))

    def source_path(self, root: Path, from_path: Path | None) -> Path:
        """Refuse to import: an import is not the folder that it was made of."""
        raise InputError(f"{self.name} is an import; to import its folder otherwise, name that: folder:PATH")


def own_imports(root: Path) -> Iterator[tuple[Path, MapIndex]]:
    """Yield the imports of folders of the user, the oldest first. An import that is damaged is passed over."""
    from benchmark.data.dataset_store import list_imports
    from benchmark.data.memory_map import read_index

    for folder in sorted(list_imports(root), key=lambda folder: folder.stat().st_mtime_ns):
        if folder.name.startswith("folder-"):
            try:
                index = read_index(folder)
            except InputError:  # `data verify` names it
                continue
            if index is not None and index.own is not None:
                yield folder, index


def describe_own_imports(root: Path) -> list[tuple[str, str, str]]:
    """Return name, state and description of the imports of folders of the user. Every command takes that name."""
    import datetime

    from benchmark.data.dataset_store import list_imports
    from benchmark.data.memory_map import open_mapped

    rows = []
    for folder in list_imports(root):
        if folder.name.startswith("folder-"):
            try:
                mapped = open_mapped(folder)
            except InputError as error:
                rows.append((folder.name, "damaged", str(error)))
                continue
            if mapped.index.own is None:
                continue
            label = _imported(mapped.index.name, "").image_set(mapped).label
            day = datetime.date.fromtimestamp(folder.stat().st_mtime)
            size = sum(file.stat().st_size for file in folder.iterdir()) / 2**20
            rows.append((label, "imported", f"{mapped.index.own['path']}, {size:,.1f} MiB, {day:%Y-%m-%d}"))
    return rows


def _imported(name: str, digits: str) -> ImportedFolder:
    return ImportedFolder(
        name=name, about=folder.__doc__ or "", Settings=ResizeSettings, path="", holds=(),
        read=lambda place, settings: _no_images(), split=_split, digits=digits,
    )  # fmt: skip


def _no_images() -> ImageList:
    raise InputError("an import has no files to read")


@DATASETS.register("folder:{path:text}")
def folder(path: str) -> PublishedDataset:
    """Any folder of images at CLASS/IMAGE. Classes are split by its splits.json, or at random: 60 / 20 / 20 %."""
    source = Path(os.path.realpath(expand_user(path)))
    imported = _IMPORTED.fullmatch(path)
    if imported and not source.is_dir():
        return _imported(f"folder:{path}", imported[1])
    dataset = Folder(
        name=f"folder:{source.name}", about=folder.__doc__ or "", Settings=ResizeSettings, path="", holds=(),
        read=lambda place, settings: dataset.image_list(settings), split=_split, source=source,
    )  # fmt: skip
    return dataset
