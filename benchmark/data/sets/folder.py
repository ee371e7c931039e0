"""Any folder of images in folders of their classes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.data.published import Published, Resized, default_workers
from benchmark.data.sets import DATASETS
from benchmark.errors import InputError
from benchmark.hashing import content_key, derive_seed
from benchmark.system.progress import Progress

if TYPE_CHECKING:
    from benchmark.data.class_splits import ClassSplit
    from benchmark.data.importing import ImageList
    from benchmark.data.memory_map import Index

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
SPLIT_FILE = "splits.json"


@dataclass(frozen=True, kw_only=True)
class Folder(Published):
    """A folder of the user's, imported when it is first asked for, and again when what it lists has changed."""

    source: Path

    @cached_property
    def files(self) -> dict[str, list[Path]]:
        """Image files by class, both in order of their names."""
        try:
            folders = sorted(path for path in self.source.iterdir() if path.is_dir() and path.name[0] != ".")
            found = {
                folder.name: sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
                for folder in folders
            }
        except OSError as error:
            raise InputError(f"folder {self.source} cannot be read ({error.strerror or error})") from None
        empty = [name for name, files in found.items() if not files]
        if empty or len(found) < 2:
            what = f"class folder {empty[0]!r} holds no image" if empty else "it has fewer than two class folders"
            raise InputError(f"{self.source} is no set of images: {what}; put each image at CLASS/IMAGE in it")
        return found

    @cached_property
    def listed(self) -> str:
        """A hash of what the folder lists: names, sizes and times of all image files."""
        stats = [(path, path.stat()) for paths in self.files.values() for path in paths]
        return content_key([[path.parent.name, path.name, s.st_size, s.st_mtime_ns] for path, s in stats])

    def folder(self, root: Path) -> Path:
        """By what the folder lists, so that it is found wherever the folder has gone."""
        return root / "sets" / f"folder-{self.source.name}-{self.listed[:12]}"

    def ready(self, root: Path, progress: Progress) -> Path:
        """The import, made where there is none."""
        found = self.found(root)
        if found is None:
            self.import_from(root, None, {}, workers=default_workers(), progress=progress)
            found = self.folder(root)
        return found

    def form(self, index: Index) -> str:
        """Begins with the hash of the pixels: other folders may have the same name."""
        return "+".join(filter(None, (index.pixels[:8], super().form(index))))

    def state(self, root: Path) -> str:
        """Needs no import of its own accord."""
        return "imported when used"

    def _place(self, root: Path, source: Path | None, part: Path, progress: Progress) -> Path:
        if source is not None:
            raise InputError(f"--from does not go with {self.name}: the name says where it is")
        return self.source


@DATASETS.register("folder:{path:text}")
def folder(path: str) -> Folder:
    """Any folder of images at CLASS/IMAGE, classes split by splits.json in it, or at random: 60 / 20 / 20 %."""
    source = Path(path).expanduser().resolve()
    name = f"folder:{source.name}"

    def read(place: Path, settings: Any) -> ImageList:
        import numpy as np

        from benchmark.data.importing import Form, ImageList

        files = made.files
        labels = np.repeat(np.arange(len(files)), [len(paths) for paths in files.values()])
        pictures = [path for paths in files.values() for path in paths]
        return ImageList(pictures, labels, tuple(files), Form(settings.size, resize=settings.resize))

    made = Folder(
        name=name, about=folder.__doc__ or "", Settings=Resized, path="", holds=(), read=read,
        split=lambda index: _split(name, source / SPLIT_FILE, index.classes), source=source,
    )  # fmt: skip
    return made


def _split(name: str, path: Path, classes: tuple[str, ...]) -> ClassSplit:
    """The split in the file, ``{"train": [class names], "val": [...], "test": [...]}``, or one drawn by the name."""
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
    drawn = [classes[c] for c in order]
    away = round(0.2 * len(drawn))
    return ClassSplit(
        "drawn", {"train": tuple(drawn[2 * away :]), "val": tuple(drawn[:away]), "test": tuple(drawn[away : 2 * away])}
    )
