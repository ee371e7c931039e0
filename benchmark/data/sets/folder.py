"""Any folder with one subfolder of images for each class."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.data.published import PublishedDataset, ResizeSettings
from benchmark.data.sets import DATASETS
from benchmark.errors import InputError, os_reason
from benchmark.hashing import content_key, derive_seed
from benchmark.system.progress import Progress

if TYPE_CHECKING:
    from benchmark.data.class_splits import ClassSplit
    from benchmark.data.importing import ImageList
    from benchmark.data.memory_map import MapIndex

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
SPLIT_FILE = "splits.json"


@dataclass(frozen=True, kw_only=True)
class Folder(PublishedDataset):
    """A folder of the user. It is imported on first use, and again if its files have changed.

    Attributes:
        source: the folder.
    """

    source: Path

    @cached_property
    def files(self) -> dict[str, list[Path]]:
        """Image files of each class. Classes and files are sorted by name."""
        try:
            folders = sorted(path for path in self.source.iterdir() if path.is_dir() and path.name[0] != ".")
            files_by_class = {
                folder.name: sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
                for folder in folders
            }
        except OSError as error:
            raise InputError(f"folder {self.source} cannot be read ({os_reason(error)})") from None
        empty = [name for name, files in files_by_class.items() if not files]
        if empty or len(files_by_class) < 2:
            reason = f"class folder {empty[0]!r} holds no image" if empty else "it has fewer than two class folders"
            raise InputError(f"{self.source} is not a set of images: {reason}; put each image at CLASS/IMAGE in it")
        return files_by_class

    @cached_property
    def files_hash(self) -> str:
        """Hash of names, sizes and modification times of all image files."""
        stats = [(path, path.stat()) for paths in self.files.values() for path in paths]
        return content_key([[path.parent.name, path.name, s.st_size, s.st_mtime_ns] for path, s in stats])

    def import_folder(self, root: Path) -> Path:
        """Return the folder of the import. It is named after the files, so that a moved folder finds its import."""
        return root / "sets" / f"folder-{self.source.name}-{self.files_hash[:12]}"

    def require_import(self, root: Path, progress: Progress) -> Path:
        """Return the folder of the import; import the set if that is missing."""
        from benchmark.data.dataset_store import default_workers, import_dataset

        if self.find_import(root) is None:
            import_dataset(self, root, None, {}, workers=default_workers(), progress=progress)
        return self.import_folder(root)

    def variant(self, index: MapIndex) -> str:
        """Return the hash of the pixels and the settings: other folders may have the same name."""
        return "+".join(filter(None, (index.pixels[:8], super().variant(index))))

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


@DATASETS.register("folder:{path:text}")
def folder(path: str) -> Folder:
    """Any folder of images at CLASS/IMAGE. Classes are split by its splits.json, or at random: 60 / 20 / 20 %."""
    source = Path(path).expanduser().resolve()
    name = f"folder:{source.name}"

    def read(place: Path, settings: Any) -> ImageList:
        import numpy as np

        from benchmark.data.image_format import ImageFormat
        from benchmark.data.importing import ImageList

        files = dataset.files
        labels = np.repeat(np.arange(len(files)), [len(paths) for paths in files.values()])
        images = [path for paths in files.values() for path in paths]
        return ImageList(images, labels, tuple(files), ImageFormat(settings.size, resize=settings.resize))

    dataset = Folder(
        name=name, about=folder.__doc__ or "", Settings=ResizeSettings, path="", holds=(), read=read,
        split=lambda index: _split(name, source / SPLIT_FILE, index.classes), source=source,
    )  # fmt: skip
    return dataset


def _split(name: str, path: Path, classes: tuple[str, ...]) -> ClassSplit:
    """Read the split file if it exists, else draw a random split that depends on the name."""
    import numpy as np

    from benchmark.data.class_splits import ClassSplit

    if path.exists():
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            parts = {part: tuple(map(str, values[part])) for part in ("train", "val", "test")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f'split file {path} is not {{"train": [class names], "val": [...], "test": [...]}} ({error})'
            ) from None
        return ClassSplit(SPLIT_FILE, parts)
    order = np.random.default_rng(derive_seed(0, "class split", name)).permutation(len(classes))
    shuffled = [classes[c] for c in order]
    fifth = round(0.2 * len(shuffled))
    val, test, train = shuffled[:fifth], shuffled[fifth : 2 * fifth], shuffled[2 * fifth :]
    return ClassSplit("drawn", {"train": tuple(train), "val": tuple(val), "test": tuple(test)})
