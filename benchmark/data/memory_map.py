"""The stored form of an imported set: a folder with memory-mapped pixels, annotations, an index and checksums.

``images.npy`` holds uint8 pixels, N x H x W x C. ``annotations.npz`` holds labels, groups and official test flags.
``index.json`` holds the rest. The folder is built under another name and renamed when it is complete on disk.
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
class MapIndex:
    """Everything about an imported set but its pixels and annotations. The field names are those of ``index.json``.

    Attributes:
        name: the set's name.
        shape: N, H, W, C of the images.
        classes: names of the classes.
        rows: images of a chunk.
        chunks: sha256 of each chunk of pixels, in order.
        annotations: sha256 of ``annotations.npz``.
        settings: import settings.
        facts: further facts for records.
        format: version of the stored form.
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
        """One hash of all pixels, made from the chunks' hashes."""
        return content_key([self.rows, list(self.shape), list(self.chunks)])


@dataclass(frozen=True, eq=False)
class MappedImages:
    """An opened import. Pixels are mapped from disk and read on access.

    Attributes:
        index: the index.
        images: uint8, N x H x W x C, mapped from disk.
        labels: N class indices.
        groups: N group ids.
        official_test: N flags of the published test images; None if there are none.
    """

    index: MapIndex
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    official_test: npt.NDArray[np.bool_] | None


def chunk_rows(shape: Sequence[int]) -> int:
    """Return the number of images in a chunk.

    Args:
        shape: shape of the images; its last three numbers are H, W and C.
    """
    height, width, channels = shape[-3:]
    return max(1, _CHUNK_BYTES // (height * width * channels))


def read_index(folder: Path) -> MapIndex | None:
    """Read the index of an import.

    Args:
        folder: the folder of the import.

    Returns:
        The index, or None if the folder does not exist.

    Raises:
        InputError: the index is missing, damaged or of another version.
    """
    path = folder / "index.json"
    if not folder.exists():
        return None
    try:
        values = json.loads(path.read_bytes())
        if values.pop("format") != FORMAT:
            raise ValueError("it is of another version of the suite")
        for name in ("shape", "classes", "chunks"):
            values[name] = tuple(values[name])
        index = MapIndex(**values)
        sizes = (*index.shape, index.rows)
        if len(index.shape) != 4 or not all(isinstance(size, int) and size > 0 for size in sizes):
            raise ValueError(f"images of shape {index.shape} in chunks of {index.rows!r}")
        if len(index.chunks) != -(-index.shape[0] // index.rows):
            raise ValueError(
                f"it has the checksums of {len(index.chunks)} chunks of {index.rows} for {index.shape[0]} images"
            )
        return index
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, str(error)) from None


def open_mapped(folder: Path) -> MappedImages:
    """Open an import without reading its pixels.

    Args:
        folder: the folder of the import.

    Raises:
        InputError: a file is missing, short or changed.
    """
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


def verify_checksums(folder: Path, progress: Progress) -> MapIndex:
    """Read every pixel of an import and compare the chunks with their recorded checksums.

    Args:
        folder: the folder of the import.
        progress: reports the work.

    Returns:
        The index of the import.

    Raises:
        InputError: a chunk or a file differs.
    """
    import numpy as np

    mapped = open_mapped(folder)
    index = mapped.index
    progress.begin(f"verify {index.name}", index.shape[0])
    try:
        for number, checksum in enumerate(index.chunks):
            rows = slice(number * index.rows, (number + 1) * index.rows)
            if _sha256(np.ascontiguousarray(mapped.images[rows])) != checksum:
                last = min(rows.stop, index.shape[0]) - 1
                raise _damaged(folder / "images.npy", f"images {rows.start} to {last} are not those recorded")
            progress.advance(min(rows.stop, index.shape[0]), "images")
    finally:
        progress.end()
    return index


class MapWriter:
    """Writes the pixels of a set chunk by chunk. A later writer can continue an interrupted one.

    A journal beside the pixels holds two words for each chunk: the key of its inputs and the sha256 of its pixels.

    Args:
        folder: the folder to build in.
        shape: N, H, W, C of all images.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int, int]) -> None:
        self._folder = folder
        self._shape = shape
        self._rows = chunk_rows(shape)
        self._bytes = shape[1] * shape[2] * shape[3]
        self._checksums: list[str] = []
        self._journal = folder / "journal"
        self._path = folder / "images.npy"
        folder.mkdir(parents=True, exist_ok=True)
        for path in set(folder.iterdir()) - {self._journal, self._path}:
            path.unlink()  # half written by an interrupted writer

    def resume(self, keys: Sequence[str]) -> int:
        """Keep the leading chunks on disk that are complete and were made from the same inputs.

        Args:
            keys: key of the inputs of every chunk, in order.

        Returns:
            The number of chunks kept.
        """
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
                        if line != f"{key} {_sha256(file.read(size))}":
                            break
                        lines.append(line)
        self._checksums = [line.split()[1] for line in lines]
        write_atomically(self._journal, "".join(f"{line}\n" for line in lines).encode())
        with self._path.open("r+b" if self._path.exists() else "w+b") as file:
            file.write(header.getvalue())
            file.truncate(self._start + self._done * self._bytes)
        return len(lines)

    def append(self, pixels: npt.NDArray[np.uint8], key: str) -> None:
        """Write the next chunk.

        Args:
            pixels: uint8, H and W and C as the whole; as many images as a chunk has.
            key: key of the chunk's inputs.
        """
        if pixels.shape != (min(self._rows, self._shape[0] - self._done), *self._shape[1:]) or pixels.dtype != "uint8":
            raise ValueError(f"a chunk of {pixels.dtype} {pixels.shape} in images of shape {self._shape}")
        content = pixels.tobytes()
        with self._path.open("r+b") as file:
            file.seek(self._start + self._done * self._bytes)
            file.write(content)
        self._checksums.append(_sha256(content))
        with self._journal.open("a") as journal:
            journal.write(f"{key} {self._checksums[-1]}\n")

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
    ) -> MapIndex:
        """Write annotations and index, flush everything to disk and rename the folder.

        Args:
            target: final name of the folder.
            name: the set's name.
            classes: names of the classes.
            labels: N class indices.
            groups: N group ids.
            official_test: N flags of the published test images; None if there are none.
            settings: import settings.
            facts: further facts for records.

        Returns:
            The index of the import.
        """
        import numpy as np

        from benchmark.system.files import write_atomically

        if self._done != self._shape[0]:
            raise ValueError(f"{self._done} of {self._shape[0]} images are written")
        arrays: dict[str, npt.NDArray[Any]] = {"labels": labels.astype(np.int32), "groups": groups.astype(np.int32)}
        if official_test is not None:
            arrays["official_test"] = official_test
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        index = MapIndex(
            name, self._shape, tuple(classes), self._rows, tuple(self._checksums),
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
        return min(len(self._checksums) * self._rows, self._shape[0])


def _sha256(content: Any) -> str:
    return hashlib.sha256(content).hexdigest()


def _damaged(path: Path, reason: str) -> InputError:
    name = path.parent.name
    return InputError(
        f"imported data file {path} is damaged ({reason}); remove it with "
        f"`python -m benchmark data remove {name}` and import it again"
    )
