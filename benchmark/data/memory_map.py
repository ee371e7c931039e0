"""The suite's own form of an imported set: a folder with mapped pixels, annotations and an index, checked by sha256.

``images.npy``: uint8, N x H x W x C; ``annotations.npz``: labels, groups, official test flags; ``index.json``: the
rest. A set is built in a folder of another name, which gets its own when everything in it is on disk.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import InputError
from benchmark.hashing import content_key
from benchmark.system.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FORMAT = 1
_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True)
class Index:
    """What an imported set is, short of its pixels and labels.

    shape: N, H, W, C; rows: images per chunk; chunks: sha256 of each chunk of pixels, in order; annotations: sha256 of
    that file; settings: those of the import; facts: more of it, for records.
    """

    name: str
    shape: tuple[int, int, int, int]
    classes: tuple[str, ...]
    rows: int
    chunks: tuple[str, ...]
    annotations: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def pixels(self) -> str:
        """One hash for all pixels, made of those of the chunks."""
        return content_key([self.rows, list(self.shape), list(self.chunks)])


@dataclass(frozen=True, eq=False)
class MappedImages:
    """An imported set, opened: pixels are mapped from disk and read when they are asked for."""

    index: Index
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    official_test: npt.NDArray[np.bool_] | None


def chunk_rows(shape: Sequence[int]) -> int:
    """How many images of H x W x C make a chunk."""
    height, width, channels = shape[-3:]
    return max(1, _CHUNK_BYTES // (height * width * channels))


def read_index(folder: Path) -> Index | None:
    """The index of an imported set, None where there is none. A damaged one raises ``InputError``."""
    path = folder / "index.json"
    if not folder.exists():
        return None
    try:
        values = json.loads(path.read_bytes())
        if values.pop("format") != FORMAT:
            raise ValueError("it is of another version of the suite")
        for name in ("shape", "classes", "chunks"):
            values[name] = tuple(values[name])
        index = Index(**values)
        sizes = (*index.shape, index.rows)
        if len(index.shape) != 4 or not all(isinstance(size, int) and size > 0 for size in sizes):
            raise ValueError(f"images of shape {index.shape} in chunks of {index.rows!r}")
        if len(index.chunks) != -(-index.shape[0] // index.rows):
            raise ValueError(
                f"it has the sums of {len(index.chunks)} chunks of {index.rows} for {index.shape[0]} images"
            )
        return index
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, str(error)) from None


def open_mapped(folder: Path) -> MappedImages:
    """Open an imported set without reading its pixels. A file missing, short or changed raises ``InputError``."""
    import numpy as np

    index = read_index(folder)
    if index is None:
        raise InputError(f"there is no imported data set {folder}")
    path = folder / "annotations.npz"
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != index.annotations:
            raise ValueError("its checksum is not the recorded one")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            annotations = dict(file)
        path = folder / "images.npy"
        images = np.load(path, mmap_mode="r", allow_pickle=False)
        if images.shape != index.shape or images.dtype != np.uint8:
            raise ValueError(f"it holds {images.dtype} {images.shape}, the index says {index.shape}")
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise _damaged(path, str(error)) from None
    official = annotations.get("official_test")
    return MappedImages(
        index, images, annotations["labels"].astype(np.int64), annotations["groups"].astype(np.int64), official
    )


def verify(folder: Path, progress: Progress) -> Index:
    """Read every pixel of an imported set and compare with the recorded sums; a difference raises ``InputError``."""
    import numpy as np

    compact = open_mapped(folder)
    index = compact.index
    progress.begin(f"verify {index.name}", index.shape[0])
    try:
        for number, wanted in enumerate(index.chunks):
            rows = slice(number * index.rows, (number + 1) * index.rows)
            if _sum(np.ascontiguousarray(compact.images[rows])) != wanted:
                last = min(rows.stop, index.shape[0]) - 1
                raise _damaged(folder / "images.npy", f"images {rows.start} to {last} are not those recorded")
            progress.advance(min(rows.stop, index.shape[0]), "images")
    finally:
        progress.end()
    return index


class MapWriter:
    """Builds the pixels of a set in ``folder``, chunk by chunk, so that a later writer can go on where one broke off.

    Beside the pixels stands a journal: for each chunk the key of what it was made from and the sha256 of its pixels.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int, int]) -> None:
        self._folder = folder
        self._shape = shape
        self._rows = chunk_rows(shape)
        self._bytes = shape[1] * shape[2] * shape[3]
        self._sums: list[str] = []
        self._journal = folder / "journal"
        self._path = folder / "images.npy"
        folder.mkdir(parents=True, exist_ok=True)
        for path in set(folder.iterdir()) - {self._journal, self._path}:
            path.unlink()  # half written when an earlier writer was ended

    def resume(self, keys: Sequence[str]) -> int:
        """Keep the chunks already there that were made from ``keys`` and are whole; how many these are."""
        import numpy as np

        from benchmark.system.files import write_atomically

        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": self._shape})
        self._start = len(header.getvalue())
        lines: list[str] = []
        if self._journal.exists() and self._path.exists():
            with self._path.open("rb") as file:
                if file.read(self._start) == header.getvalue():
                    for line, key in zip(self._journal.read_text("ascii", "replace").splitlines(), keys, strict=False):
                        size = min(self._rows, self._shape[0] - len(lines) * self._rows) * self._bytes
                        if line != f"{key} {_sum(file.read(size))}":
                            break
                        lines.append(line)
        self._sums = [line.split()[1] for line in lines]
        write_atomically(self._journal, "".join(f"{line}\n" for line in lines).encode())
        with self._path.open("r+b" if self._path.exists() else "w+b") as file:
            file.write(header.getvalue())
            file.truncate(self._start + self._done * self._bytes)
        return len(lines)

    def append(self, pixels: npt.NDArray[np.uint8], key: str) -> None:
        """Write the next chunk, made from ``key``."""
        if pixels.shape != (min(self._rows, self._shape[0] - self._done), *self._shape[1:]) or pixels.dtype != "uint8":
            raise ValueError(f"a chunk of {pixels.dtype} {pixels.shape} in images of shape {self._shape}")
        content = pixels.tobytes()
        with self._path.open("r+b") as file:
            file.seek(self._start + self._done * self._bytes)
            file.write(content)
        self._sums.append(_sum(content))
        with self._journal.open("a") as journal:
            journal.write(f"{key} {self._sums[-1]}\n")

    def finish(
        self,
        target: Path,
        *,
        name: str,
        classes: Sequence[str],
        labels: npt.NDArray[np.int64],
        groups: npt.NDArray[np.int64],
        official_test: npt.NDArray[np.bool_] | None,
        settings: Mapping[str, Any],
        facts: Mapping[str, Any],
    ) -> Index:
        """Write annotations and index, see everything to disk and give the folder its name."""
        import numpy as np

        from benchmark.system.files import write_atomically

        if self._done != self._shape[0]:
            raise ValueError(f"{self._done} of {self._shape[0]} images are written")
        arrays: dict[str, npt.NDArray[Any]] = {"labels": labels.astype(np.int32), "groups": groups.astype(np.int32)}
        if official_test is not None:
            arrays["official_test"] = official_test
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        index = Index(
            name, self._shape, tuple(classes), self._rows, tuple(self._sums),
            hashlib.sha256(buffer.getvalue()).hexdigest(), dict(settings), dict(facts),
        )  # fmt: skip
        write_atomically(self._folder / "annotations.npz", buffer.getvalue())
        with self._path.open("r+b") as file:
            os.fsync(file.fileno())
        write_atomically(self._folder / "index.json", (json.dumps(dataclasses.asdict(index)) + "\n").encode())
        self._journal.unlink()
        self._folder.rename(target)
        return index

    @property
    def _done(self) -> int:
        return min(len(self._sums) * self._rows, self._shape[0])


def _sum(content: Any) -> str:
    return hashlib.sha256(content).hexdigest()


def _damaged(path: Path, reason: str) -> InputError:
    name = path.parent.name
    return InputError(
        f"imported data file {path} is damaged ({reason}); remove it with "
        f"`python -m benchmark data remove {name}` and import it again"
    )
