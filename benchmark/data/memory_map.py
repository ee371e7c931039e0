"""The stored form of an imported set: a folder with memory-mapped pixels, annotations, an index and checksums.

``images.npy`` holds uint8 pixels, N x H x W x C. ``annotations.npz`` holds labels, groups and official test flags.
``index.json`` holds the rest, with checksums of everything and of itself. The folder is built under another name and
renamed when it is complete on disk.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import InputError
from benchmark.hashing import content_key
from benchmark.system.files import open_plain, write_atomically
from benchmark.system.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FORMAT = 2
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
        header: sha256 of what stands before the pixels in ``images.npy``.
        annotations: sha256 of ``annotations.npz``.
        settings: import settings.
        facts: further facts for records.
        own: of a folder of the user, its ``path`` and the class split, ``split`` and ``classes``; None for other sets.
        format: version of the stored form.
    """

    name: str
    shape: tuple[int, int, int, int]
    classes: tuple[str, ...]
    rows: int
    chunks: tuple[str, ...]
    header: str
    annotations: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    own: Mapping[str, Any] | None = None
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
        with open_plain(path) as file:
            values = json.loads(file.read())
        if values["format"] != FORMAT:
            raise _OtherVersion
        if values.pop("sha256") != content_key(values):
            raise ValueError("its checksum is not the recorded one")
        for name in ("shape", "classes", "chunks"):
            values[name] = tuple(values[name])
        return MapIndex(**values)
    except _OtherVersion:
        raise _unusable(path, "is of another version of the suite") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unusable(path, f"is damaged ({error})") from None


def open_mapped(folder: Path) -> MappedImages:
    """Open an import without reading its pixels. ``check_pixels`` compares these with their checksums.

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
        with open_plain(path) as file:
            content = file.read()
        if hashlib.sha256(content).hexdigest() != index.annotations:
            raise ValueError("its checksum is not the recorded one")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            annotations = dict(arrays)
        path = folder / "images.npy"
        with open_plain(path) as file:
            start = os.fstat(file.fileno()).st_size - math.prod(index.shape)
            if start <= 0 or _sha256(file.read(start)) != index.header:
                raise ValueError("its header or its size is not the recorded one")
        images = np.memmap(path, np.uint8, "r", start, index.shape)
    except (OSError, ValueError) as error:
        raise _unusable(path, f"is damaged ({error})") from None
    official = annotations.get("official_test")
    return MappedImages(
        index, images, annotations["labels"].astype(np.int64), annotations["groups"].astype(np.int64), official
    )


def check_pixels(folder: Path, progress: Progress, *, again: bool = False) -> MapIndex:
    """Compare the pixels of an import with their recorded checksums, once for each process and state of the file.

    Args:
        folder: the folder of the import.
        progress: reports the work.
        again: compare them even if this process has done so.

    Returns:
        The index of the import.

    Raises:
        InputError: a chunk or a file differs.
    """
    mapped = open_mapped(folder)
    index = mapped.index
    path = folder / "images.npy"
    facts = os.stat(path)
    state = (str(path.resolve()), facts.st_ino, facts.st_size, facts.st_mtime_ns, index.pixels)
    if state in _CHECKED and not again:
        return index
    spans = [slice(n * index.rows, min((n + 1) * index.rows, index.shape[0])) for n in range(len(index.chunks))]
    progress.begin(f"check {index.name}", index.shape[0], "images")
    started = time.perf_counter()
    pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1))  # hashing releases the interpreter's lock
    try:
        found = pool.map(lambda span: _sha256(mapped.images[span]), spans)
        for span, checksum, recorded in zip(spans, found, index.chunks, strict=True):
            if checksum != recorded:
                raise _unusable(path, f"is damaged (images {span.start} to {span.stop - 1} are not those recorded)")
            progress.advance(span.stop, "images")
    finally:
        pool.shutdown(cancel_futures=True)
        progress.end()
    seconds = time.perf_counter() - started
    if seconds >= 1:
        progress.say(
            f"{index.name}: {math.prod(index.shape) / 1e9:.1f} GB compared with their checksums, {seconds:.0f} s"
        )
    _CHECKED.add(state)
    return index


_CHECKED: set[tuple[str, int, int, int, str]] = set()
"""Files of pixels that this process has compared with their checksums: path, inode, size, time, checksum."""


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

        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": self._shape})
        self._header = header.getvalue()
        self._start = len(self._header)
        lines: list[str] = []
        if self._journal.exists() and self._path.exists():
            with self._path.open("rb") as file:
                if file.read(self._start) == self._header:
                    for line, key in zip(self._journal.read_text("ascii", "replace").splitlines(), keys, strict=False):
                        size = min(self._rows, self._shape[0] - len(lines) * self._rows) * self._bytes
                        if line != f"{key} {_sha256(file.read(size))}":
                            break
                        lines.append(line)
        self._checksums = [line.split()[1] for line in lines]
        write_atomically(self._journal, "".join(f"{line}\n" for line in lines).encode())
        with self._path.open("r+b" if self._path.exists() else "w+b") as file:
            file.write(self._header)
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
        own: Mapping[str, Any] | None = None,
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
            own: of a folder of the user, its path and class split.

        Returns:
            The index of the import.
        """
        import numpy as np

        if self._done != self._shape[0]:
            raise ValueError(f"{self._done} of {self._shape[0]} images are written")
        arrays: dict[str, npt.NDArray[Any]] = {"labels": labels.astype(np.int32), "groups": groups.astype(np.int32)}
        if official_test is not None:
            arrays["official_test"] = official_test
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        index = MapIndex(
            name, self._shape, tuple(classes), self._rows, tuple(self._checksums), _sha256(self._header),
            _sha256(buffer.getvalue()), dict(settings), dict(facts), own,
        )  # fmt: skip
        values = dataclasses.asdict(index)
        write_atomically(self._folder / "annotations.npz", buffer.getvalue())
        with self._path.open("r+b") as file:
            os.fsync(file.fileno())
        write_atomically(
            self._folder / "index.json", (json.dumps({**values, "sha256": content_key(values)}) + "\n").encode()
        )
        self._journal.unlink()
        self._folder.rename(target)
        return index

    def pixels(self) -> npt.NDArray[np.uint8]:
        """Return the pixels that are written, mapped from disk."""
        import numpy as np

        return np.memmap(self._path, np.uint8, "r", self._start, (self._done, *self._shape[1:]))

    @property
    def _done(self) -> int:
        return min(len(self._checksums) * self._rows, self._shape[0])


def _sha256(content: Any) -> str:
    return hashlib.sha256(content).hexdigest()


class _OtherVersion(Exception):
    """The index is of another version of the stored form."""


def _unusable(path: Path, reason: str) -> InputError:
    folder = path.parent
    words = ["python", "-m", "benchmark", "data", "remove", folder.name]
    if folder.parent.name == "sets":
        words += ["--data", str(folder.parent.parent)]
    return InputError(f"imported data file {path} {reason}; remove it with `{shlex.join(words)}` and import it again")
