"""Published data sets: the source and reader of their files, and how an import becomes an ``ImageSet``."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Le

from benchmark.data.download import Download
from benchmark.data.image_format import Resize
from benchmark.errors import InputError
from benchmark.system.files import expand_user
from benchmark.system.progress import Progress, Silent

if TYPE_CHECKING:
    from benchmark.data import ImageSet
    from benchmark.data.class_splits import ClassSplit
    from benchmark.data.importing import ImageList
    from benchmark.data.memory_map import MapIndex, MappedImages
    from benchmark.registry import Resolved


@dataclass(frozen=True)
class NoImportSettings:
    """Import settings of a set whose images are stored unchanged."""


@dataclass(frozen=True)
class ResizeSettings:
    """Import settings of a set whose images are resized.

    Attributes:
        size: side of the stored images in pixels.
        resize: how other shapes become square; see ``ImageFormat``.
    """

    size: Annotated[int, Ge(8), Le(1024)] = 84
    resize: Resize = "squash"


def default_data_root() -> Path:
    """Return the default data root: ``BENCHMARK_DATA`` if set, else a folder in the user's cache.

    Raises:
        InputError: the user has no home, and so no cache.
    """
    import platformdirs

    if folder := os.environ.get("BENCHMARK_DATA"):
        return Path(folder)
    try:
        return Path(platformdirs.user_cache_path("distillation-benchmark"))
    except RuntimeError:
        raise InputError("this user has no home folder for data sets and teachers; use --data DIR") from None


def _no_orders(index: MapIndex) -> Mapping[str, tuple[int, ...]]:
    return {}


@dataclass(frozen=True, kw_only=True)
class PublishedDataset:
    """The definition of a data set that does not ship with the suite. Calling it with a data root opens its import.

    Attributes:
        name: the set's name.
        about: one line for listings.
        Settings: dataclass of its import settings.
        path: words for what ``--from`` must name.
        holds: names of files or folders; any of them marks the folder that ``read`` takes.
        read: makes the list of images from that folder and the import settings.
        split: returns the class split of an import.
        orders: returns published class orders of an import by purpose.
        background: pixel value that pads an image, 0..255.
        flip_invariant: True if a mirrored image still belongs to its class.
        downloads: the set's files on its publisher's server.
        steps: instructions to get the files by hand.
        base: another set whose import also serves this one, if its settings agree with ``needs``.
        needs: import settings that define this set.
    """

    name: str
    about: str
    Settings: type
    path: str
    holds: tuple[str, ...]
    read: Callable[[Path, Any], ImageList]
    split: Callable[[MapIndex], ClassSplit]
    orders: Callable[[MapIndex], Mapping[str, tuple[int, ...]]] = _no_orders
    background: int = 0
    flip_invariant: bool = True
    downloads: tuple[Download, ...] = ()
    steps: tuple[str, ...] = ()
    base: PublishedDataset | None = None
    needs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", self.about)

    def __call__(self, root: Path) -> ImageSet:
        """Open the import of this set.

        Args:
            root: the data root.

        Raises:
            InputError: the set is not imported, and the message is the command that imports it; or its pixels are not
                those recorded.
        """
        from benchmark.data.memory_map import check_pixels, open_mapped

        folder = self.require_import(root, Silent())
        check_pixels(folder, Silent())
        return self.image_set(open_mapped(folder))

    def image_set(self, mapped: MappedImages) -> ImageSet:
        """Return the image set of an opened import."""
        from benchmark.data.image_set import ImageSet, ImportInfo

        index = mapped.index
        split = self.split(index)
        facts = {"import": dict(index.settings), **index.facts}
        return ImageSet(
            name=self.name if index.own is None else index.name,
            images=mapped.images,
            labels=mapped.labels,
            groups=mapped.groups,
            classes=index.classes,
            splits=split.indices(index.classes),
            background=self.background,
            flip_invariant=self.flip_invariant,
            orders=self.orders(index),
            official_test=mapped.official_test,
            split_name=split.name,
            import_info=ImportInfo(index.pixels, self.variant(index), facts, own=index.own is not None),
        )

    @property
    def typed_name(self) -> str:
        """The name as it is typed in any working directory."""
        return self.name

    def remarks(self, import_folder: Path) -> list[str]:
        """Return what a user should know of an import, one line each; nothing of a published set."""
        return []

    def variant(self, index: MapIndex) -> str:
        """Return the settings of an import that are not the defaults, such as ``crop=true+size=224``."""
        defaults = dataclasses.asdict(self.Settings())
        return "+".join(f"{k}={text_of(v)}" for k, v in sorted(index.settings.items()) if defaults.get(k) != v)

    def import_folder(self, root: Path) -> Path:
        """Return the folder of this set's own import, which need not exist."""
        return root / "sets" / self.name

    def download_folder(self, root: Path) -> Path:
        """Return the folder of this set's downloaded files, which need not exist."""
        return self.base.download_folder(root) if self.base is not None else root / "downloads" / self.name

    def is_downloaded(self, root: Path) -> bool:
        """Return whether all files of this set are downloaded."""
        return bool(self.downloads) and all((self.download_folder(root) / d.filename).exists() for d in self.downloads)

    def find_import(self, root: Path) -> Path | None:
        """Return the folder of an import that serves this set, its own or that of ``base``; None if there is none."""
        from benchmark.data.memory_map import read_index

        for dataset in (self, self.base or self):
            folder = dataset.import_folder(root)
            index = read_index(folder)
            if index is not None and all(index.settings.get(k) == v for k, v in self.needs.items()):
                return folder
        return None

    def require_import(self, root: Path, progress: Progress) -> Path:
        """Return the folder of an import that serves this set.

        Args:
            root: the data root.
            progress: reports the work of a set that is imported on first use.

        Raises:
            InputError: the set is not imported; the message is the command that imports it.
        """
        folder = self.find_import(root)
        if folder is None:
            settings = ", ".join(self._settings_to_type(self))
            condition = f" with {settings}" if settings else ""
            raise InputError(f"data set {self.name} is not imported{condition}; type: {self.import_command(root)}")
        return folder

    def import_command(self, root: Path) -> str:
        """Return the command line that imports this set, with the download if that is missing."""
        dataset, settings = self, self._settings_to_type(self)
        base = self.base
        if base is not None and not base.import_folder(root).exists() and not self._settings_to_type(base):
            dataset, settings = base, []
        data_option = f" --data {shlex.quote(str(root))}"
        with contextlib.suppress(InputError):
            data_option = "" if root == default_data_root() else data_option
        command = f"python -m benchmark data import {dataset.name}{data_option}"
        command += "".join(f" --set {setting}" for setting in settings)
        if self.is_downloaded(root):
            return command
        by_hand = f"{command} --from PATH (PATH: {dataset.path})"
        if not self.downloads:
            return f"{by_hand}; `python -m benchmark data download {dataset.name}` prints how to get the files"
        download = f"python -m benchmark data download {dataset.name}{data_option}"
        return f"{download} && {command}, or if you have its files {by_hand}"

    def _settings_to_type(self, imported: PublishedDataset) -> list[str]:
        """The ``needs`` of this set that are not defaults when ``imported`` is imported."""
        defaults = dataclasses.asdict(imported.Settings())
        return [f"{name}={text_of(value)}" for name, value in self.needs.items() if defaults.get(name) != value]

    def source_path(self, root: Path, from_path: Path | None) -> Path:
        """Return the file or folder to import from.

        Args:
            root: the data root.
            from_path: value of ``--from``; None is the downloaded files.

        Raises:
            InputError: the path does not exist.
        """
        if from_path is None:
            if not self.is_downloaded(root):
                raise InputError(f"the files of {self.name} are not there; type: {self.import_command(root)}")
            return self.download_folder(root)
        path = expand_user(from_path)
        if not path.exists():
            raise InputError(f"{path} does not exist; --from names {self.path}")
        return path

    def locate(self, source: Path) -> Path | None:
        """Return the folder that ``read`` takes: ``source`` or a folder in it; None if neither has the files."""
        if not source.is_dir():
            return None
        subfolders = sorted(path for path in source.iterdir() if path.is_dir())
        return next((f for f in (source, *subfolders) if any(any(f.glob(mark)) for mark in self.holds)), None)

    def state(self, root: Path) -> str:
        """Return the state for listings, such as ``imported``, ``downloaded`` or ``not here``."""
        try:
            folder = self.find_import(root)
        except InputError:
            return "damaged"
        own_folder = self.import_folder(root)
        if folder is not None:
            return "imported" if folder == own_folder else f"imported as {folder.name}"
        if unfinished_folder(own_folder).exists():
            return "import interrupted"
        return "downloaded" if self.is_downloaded(root) else "not here"


def data_set(name: str) -> Callable[[Path], ImageSet]:
    """Return the loader of a data set, published or not. A name with fields makes its loader from them."""
    from benchmark.data import DATASETS

    match: Resolved[Any] = DATASETS.get(name)
    loader: Callable[[Path], ImageSet] = match.entry(**match.fields) if match.fields else match.entry
    return loader


def open_data_set(loader: Callable[[Path], ImageSet], root: Path, progress: Progress) -> ImageSet:
    """Load a data set.

    Args:
        loader: a loader, as ``data_set`` returns it.
        root: the data root.
        progress: reports the work: the import on first use, and the check of all pixels, once for each process.
    """
    if isinstance(loader, PublishedDataset):
        from benchmark.data.memory_map import check_pixels

        check_pixels(loader.require_import(root, progress), progress)
    return loader(root)


def absolute_name(name: str) -> str:
    """Return the name of a data set with the whole path in place of one that depends on the working directory."""
    try:
        loader = data_set(name)
    except InputError:  # it is named where the data set is opened
        return name
    return loader.typed_name if isinstance(loader, PublishedDataset) else name


def unfinished_folder(import_folder: Path) -> Path:
    """Return the folder that keeps the work of an unfinished import."""
    return import_folder.with_name(f".{import_folder.name}.part")


def text_of(value: Any) -> str:
    """Return a setting's value as it is typed: ``true`` for True."""
    return str(value).lower() if isinstance(value, bool) else str(value)
