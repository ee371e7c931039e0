"""The arrays of a record: an ``.npz`` file, read within bounds and without pickle, and its checksum."""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmark.hashing import content_key
from benchmark.records import schema

Arrays = Mapping[str, npt.NDArray[Any]]


def checksum(arrays: Arrays) -> str:
    """The sha256 of names, types, shapes and values. It is the same for a loose and for a packed file."""
    return content_key({
        name: [array.dtype.str, list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
        for name, array in arrays.items()
    })  # fmt: skip


def to_npz(arrays: Arrays, *, compress: bool) -> bytes:
    """The content of an ``.npz`` file."""
    buffer = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(buffer, **dict(arrays))
    return buffer.getvalue()


def from_npz(content: bytes) -> dict[str, npt.NDArray[Any]]:
    """The arrays in an ``.npz`` file by name.

    Raises:
        ValueError: it is damaged, holds objects, or unpacks to more than ``MAX_ARRAY_BYTES``.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            members = file.infolist()
            if sum(member.file_size for member in members) > schema.MAX_ARRAY_BYTES:
                raise ValueError(f"they unpack to more than {schema.MAX_ARRAY_BYTES:,} bytes")
            return {member.filename.removesuffix(".npy"): _array(file.read(member)) for member in members}
    except Exception as error:  # zipfile and numpy raise errors of any kind on damaged bytes
        raise ValueError(str(error) or type(error).__name__) from None


def _array(content: bytes) -> npt.NDArray[Any]:
    """The array in a ``.npy`` file, whose header may ask for no more than the file holds."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError("the header of an array does not fit its size")
    file.seek(0)
    array: npt.NDArray[Any] = np.load(file, allow_pickle=False)
    return array
