"""Images read from large files on demand, from front to back."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from benchmark.data.decoding import RawImage
from benchmark.errors import InputError
from benchmark.system.files import open_plain


class LazyImages:
    """Images of one file, loaded together when the first of them is needed.

    Args:
        path: the file.
        count: number of images that the file must hold.
        load: reads all images of the file.

    Raises:
        InputError: on first access, if the file holds another number of images.
    """

    def __init__(self, path: Path, count: int, load: Callable[[Path], Sequence[RawImage]]) -> None:
        self._path = path
        self._count = count
        self._load = load
        self._loaded: Sequence[RawImage] | None = None

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, rows: slice) -> Sequence[RawImage]:
        if self._loaded is None:
            self._loaded = self._load(self._path)
            if len(self._loaded) != self._count:
                raise InputError(
                    f"file {self._path} holds {len(self._loaded)} images for {self._count} labels; get both again"
                )
        return self._loaded[rows]


class NpzImages:
    """Images of an array in an npz file, M x H x W x C uint8. Only the requested rows are in memory.

    Args:
        path: the npz file.
        name: name of the array.
        bgr: the channels are blue, green, red; they are returned as red, green, blue.

    Raises:
        InputError: the file is damaged or has no such array.
    """

    def __init__(self, path: Path, name: str, *, bgr: bool = False) -> None:
        self._path = path
        self._name = name
        self._bgr = bgr
        self._open_files = ExitStack()
        self._file: IO[bytes] | None = None
        self._next = 0
        self._shape = self._open()
        self._close()

    def __len__(self) -> int:
        return self._shape[0]

    def __getitem__(self, rows: slice) -> npt.NDArray[np.uint8]:
        if rows.start < self._next or self._file is None:
            self._close()
            self._open()
        while self._next < rows.start:
            self._read(min(256, rows.start - self._next))
        stop = min(rows.stop, len(self))
        images = np.frombuffer(self._read(stop - self._next), np.uint8).reshape(-1, *self._shape[1:])
        if stop == len(self):
            self._close()
        return images[..., ::-1] if self._bgr else images

    def _read(self, rows: int) -> bytes:
        assert self._file is not None
        height, width, channels = self._shape[1:]
        size = rows * height * width * channels
        try:
            content = self._file.read(size)
        except Exception as error:  # a damaged archive can raise anything
            raise self._damaged(str(error)) from None
        if len(content) < size:
            raise self._damaged("it is short")
        self._next += rows
        return content

    def _open(self) -> tuple[int, int, int, int]:
        try:
            open_plain(self._path).close()  # a FIFO would be waited for
            archive = self._open_files.enter_context(zipfile.ZipFile(self._path))
            self._file = self._open_files.enter_context(archive.open(f"{self._name}.npy"))
            self._next = 0
            version = np.lib.format.read_magic(self._file)
            if version != (1, 0):  # the others are for longer headers, which are read whole
                raise ValueError(f"an array in version {version} of the format")
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(self._file)
        except Exception as error:  # a damaged archive can raise anything
            self._close()
            raise self._damaged(str(error)) from None
        if len(shape) != 4 or fortran or dtype != np.uint8:
            self._close()
            raise self._damaged(f"{self._name} is {dtype} {shape}, not uint8 M x H x W x C")
        return shape

    def _close(self) -> None:
        self._open_files.close()
        self._file = None

    def _damaged(self, reason: str) -> InputError:
        return InputError(
            f"file {self._path} is damaged ({reason.splitlines()[0] if reason else 'cut off'}); get it again"
        )
