"""Packs: many records and their arrays in one compressed file, ``NAME.records.tar.xz``.

Inside are the files of a results folder: first every ``.json``, then every ``.npz``, both by name. The arrays are not
compressed on their own, so that xz finds what records have in common. ``tar xf`` turns a pack into loose records.
"""

from __future__ import annotations

import contextlib
import functools
import io
import lzma
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn, cast

from benchmark.errors import InputError, os_reason
from benchmark.records import schema
from benchmark.records.schema import DamagedRecord, Record, key_of, parse_record
from benchmark.system.files import NotAFile, read_file

SUFFIX = ".records.tar.xz"
_BLOCK = 1 << 20
_CACHED = 8
"""The arrays of so many packs stay in memory: figures read the records of several protocols in turn."""


class DamagedPack(InputError):
    """A pack that cannot be read, or is none."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path = path


@dataclass(frozen=True)
class Limits:
    """The bounds beyond which a pack counts as an archive bomb."""

    size: int = 8 << 30
    """Unpacked bytes."""
    ratio: int = 200
    """Unpacked bytes for each byte of the file."""
    small: int = 256 << 20
    """Unpacked bytes that are accepted from a file of any size."""
    memory: int = 256 << 20
    """Bytes that the decoder may use."""
    file: int = 4 << 30
    """Bytes of the pack itself."""


LIMITS = Limits()


class Pack:
    """A pack as it was on disk when it was opened. Its content is read when it is first needed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @functools.cached_property
    def texts(self) -> Mapping[str, bytes]:
        """The JSON text of each record by file name. Reading stops where the arrays begin."""
        texts = {}
        for name, content in members(self.path):
            if not name.endswith(".json"):
                break
            texts[name] = content
        return texts

    @functools.cached_property
    def names(self) -> Mapping[str, str]:
        """The file name of each record by the first 12 digits of its key."""
        return {key_of(name): name for name in self.texts}

    def record(self, name: str) -> Record:
        """The record of that file name.

        Raises:
            InputError: the record is damaged, or has another schema.
        """
        try:
            return parse_record(self.texts[name], self.path / name)
        except DamagedRecord as error:
            raise InputError(
                f"record {name} in {self.path} is damaged ({error.reason}); replace the file or move it away"
            ) from None


def check_inside(path: Path, root: Path, what: str) -> None:
    """Refuse a file that lies outside ``root``, by its name or by a link."""
    if os.path.dirname(os.path.realpath(path)) != os.path.realpath(root):
        raise InputError(f"{what} {path} leads out of {root}; put the file itself there")


def open_pack(path: Path) -> Pack:
    """The pack at a path, from memory if it was opened before and has not changed.

    Raises:
        InputError: the file cannot be read, or a link leads out of its folder.
    """
    return _opened(path, *_version(path))


def packed_arrays(pack: Pack) -> Mapping[str, bytes]:
    """The content of each ``.npz`` file of a pack by name, from memory if it was read lately."""
    return _arrays(pack.path, *_version(pack.path))


def packed_keys(folder: Path) -> set[str]:
    """The first 12 digits of the keys of all packed records in a folder. Damaged packs are left out.

    This is for shell completion, where an error has no place: every command names damaged packs.
    """
    keys: set[str] = set()
    for path in folder.glob(f"*{SUFFIX}"):
        with contextlib.suppress(InputError):
            keys |= set(open_pack(path).names)
    return keys


def _version(path: Path) -> tuple[int, int]:
    """Two numbers that change when the file does: its time and its size."""
    try:
        status = path.stat()
    except OSError as error:
        raise DamagedPack(path, f"pack {path} cannot be read ({os_reason(error)})") from None
    return status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=256)
def _opened(path: Path, _time: int, _size: int) -> Pack:
    try:
        check_inside(path, path.parent, "pack")
    except InputError as error:
        raise DamagedPack(path, str(error)) from None
    return Pack(path)


@functools.lru_cache(maxsize=_CACHED)
def _arrays(path: Path, _time: int, _size: int) -> Mapping[str, bytes]:
    return {name: content for name, content in members(path) if name.endswith(".npz")}


def members(path: Path, limits: Limits = LIMITS) -> Iterator[tuple[str, bytes]]:
    """The files in a pack by name, in the order of the pack."""
    seen: set[str] = set()
    try:
        with _stream(path, read_file(path, limits.file), limits) as tar:
            for member in tar:
                if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse() or not _is_ours(member):
                    _refuse(path, f"its member {member.name!r} is neither a record nor arrays")
                if member.name in seen:
                    _refuse(path, f"two of its members are called {member.name!r}")
                if member.size > (schema.MAX_BYTES if member.name.endswith(".json") else schema.MAX_ARRAY_BYTES):
                    _refuse(path, f"its member {member.name!r} is larger than a record can be")
                seen.add(member.name)
                content = tar.extractfile(member)
                assert content is not None  # of a regular file
                yield member.name, content.read()
    except DamagedPack:
        raise
    except NotAFile as error:
        _refuse(path, str(error.strerror))
    except (tarfile.TarError, lzma.LZMAError, EOFError, ValueError, OverflowError) as error:
        _refuse(path, str(error))
    except OSError as error:
        raise DamagedPack(path, f"pack {path} cannot be read ({os_reason(error)})") from None


def _is_ours(member: tarfile.TarInfo) -> bool:
    return re.fullmatch(r"[^./\\][^/\\\0]*\.(json|npz)", member.name) is not None


def _stream(path: Path, content: bytes, limits: Limits) -> tarfile.TarFile:
    return tarfile.open(fileobj=cast("IO[bytes]", _Decoder(path, content, limits)), mode="r|")


def _refuse(path: Path, reason: str) -> NoReturn:
    raise DamagedPack(path, f"pack {path} is damaged ({reason}); replace the file or move it away") from None


class _Decoder:
    """A stream of unpacked bytes that ends in an error where the limits are exceeded."""

    def __init__(self, path: Path, content: bytes, limits: Limits) -> None:
        self._path = path
        self._file = io.BytesIO(content)
        self._xz = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=limits.memory)
        self._left = min(limits.size, max(limits.small, limits.ratio * len(content)))

    def read(self, size: int) -> bytes:
        """At most so many bytes; fewer only at the end."""
        parts: list[bytes] = []
        while size and not self._xz.eof:
            packed = self._file.read(_BLOCK) if self._xz.needs_input else b""
            if self._xz.needs_input and not packed:
                raise EOFError("it is cut off")
            part = self._xz.decompress(packed, max_length=size)
            size -= len(part)
            self._left -= len(part)
            if self._left < 0:
                _refuse(self._path, "it unpacks to more than a pack of its size can hold")
            parts.append(part)
        return b"".join(parts)
