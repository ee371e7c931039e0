"""Unpack archives without trusting them: only files and folders, only inside one folder, and within size limits."""

from __future__ import annotations

import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from benchmark.errors import InputError, os_reason
from benchmark.system.files import open_plain
from benchmark.system.progress import Progress

_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".zip")
_BLOCK = 1 << 20
_HEADER = 1 << 16
_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
"""Members that say something of the next one. ``tarfile`` reads them whole, so their size is limited."""


@dataclass(frozen=True)
class Limits:
    """Limits against archives that unpack to far more than they hold.

    Attributes:
        files: largest number of members.
        size: largest unpacked size in bytes.
        ratio: largest unpacked size, as a multiple of the archive's size.
        small: unpacked size in bytes to which ``ratio`` does not apply.
    """

    files: int = 3_000_000
    size: int = 400 << 30
    ratio: int = 200
    small: int = 64 << 20


@dataclass(frozen=True)
class _Member:
    name: str
    is_folder: bool
    open: Callable[[], IO[bytes]]
    position: int


def is_archive(path: Path) -> bool:
    """Return whether the file's name is that of an archive which ``extract`` reads."""
    return path.is_file() and path.name.lower().endswith(_ENDINGS)


def extract(archives: Sequence[Path], folder: Path, progress: Progress, limits: Limits | None = None) -> None:
    """Unpack tar (plain, gzip, bzip2, xz) and zip files. The folder is created complete or not at all.

    Args:
        archives: the archives; all go into one folder.
        folder: the folder to create.
        progress: reports the work.
        limits: limits on size and members; None is the default limits.

    Raises:
        InputError: an archive is damaged, encrypted or larger than ``limits``, or has a member that is a link, a
            device, outside the folder or named like another.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        for archive in archives:
            _extract(archive, scratch, progress, limits or Limits())
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _extract(archive: Path, folder: Path, progress: Progress, limits: Limits) -> None:
    try:
        total = archive.stat().st_size
        progress.begin(f"unpack {archive.name}", max(1, total >> 20), "MiB")
        _Unpacking(archive, folder, limits, max(limits.small, limits.ratio * total)).run(progress)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot unpack {archive} to {folder.parent} ({os_reason(error)})") from None
    except RuntimeError as error:  # zipfile: a member needs a password
        raise InputError(f"archive {archive} cannot be unpacked ({_reason(error)})") from None
    except Exception as error:  # a damaged archive can raise anything
        raise InputError(f"archive {archive} is damaged or cut off ({_reason(error)}); get it again") from None
    finally:
        progress.end()


class _Unpacking:
    def __init__(self, archive: Path, folder: Path, limits: Limits, size: int) -> None:
        self._archive = archive
        self._folder = folder
        self._files = limits.files
        self._size = min(limits.size, size)
        self._written = 0

    def run(self, progress: Progress) -> None:
        with closing(self._zip() if self._archive.name.lower().endswith(".zip") else self._tar()) as members:
            for number, member in enumerate(members, 1):
                if number > self._files:
                    raise self._refused(f"it holds more than {self._files:,} members")
                self._write(member)
                if number % 64 == 0:
                    progress.advance(member.position >> 20, "MiB")

    def _write(self, member: _Member) -> None:
        target = self._folder / self._inside(member.name)
        if member.is_folder:
            target.mkdir(parents=True, exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = target.open("xb")
        except FileExistsError:
            raise self._refused(f"two of its members are called {member.name!r}") from None
        with file, closing(member.open()) as content:
            while block := content.read(_BLOCK):
                self._written += len(block)
                if self._written > self._size:
                    raise self._refused(f"it unpacks to more than {self._size >> 20:,} MiB")
                file.write(block)

    def _inside(self, name: str) -> PurePosixPath:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or re.match("[A-Za-z]:", name):
            raise self._refused(f"its member {name!r} leads out of the folder")
        return path

    def _tar(self) -> Generator[_Member]:
        try:
            with open_plain(self._archive) as raw, tarfile.open(fileobj=raw, mode="r|*", tarinfo=_Header) as tar:
                while (info := tar.next()) is not None:
                    tar.members.clear()  # type: ignore[attr-defined]  # it keeps them all
                    if not (info.isreg() or info.isdir()):
                        raise self._refused(f"its member {info.name!r} is a link or a device")
                    yield _Member(info.name, info.isdir(), partial(_open, tar, info), raw.tell())
        except _HeaderRefused as error:
            raise self._refused(str(error)) from None

    def _zip(self) -> Generator[_Member]:
        position = 0
        with open_plain(self._archive) as raw, zipfile.ZipFile(raw) as archive:
            for info in archive.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise self._refused(f"its member {info.filename!r} is a link or a device")
                position += info.compress_size
                yield _Member(info.filename, info.is_dir(), partial(archive.open, info), position)

    def _refused(self, reason: str) -> InputError:
        return InputError(
            f"archive {self._archive} is not unpacked: {reason}; if you trust it, unpack it and name its folder"
        )


class _HeaderRefused(Exception):
    """A header that is refused before it is read."""


class _Header(tarfile.TarInfo):
    """A header whose size is limited before it is read; ``_proc_member`` is what tarfile has subclasses override."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _HEADERS and self.size > _HEADER:
            raise _HeaderRefused(f"one of its headers has {self.size >> 10:,} KiB")
        if self.type == tarfile.XGLTYPE:  # what they say is kept to the end
            tar.pax_size = getattr(tar, "pax_size", 0) + self.size  # type: ignore[attr-defined]
            if tar.pax_size > _HEADER:  # type: ignore[attr-defined]
                raise _HeaderRefused(f"its global headers have more than {_HEADER >> 10:,} KiB")
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise _HeaderRefused(f"its member {self.name!r} is a sparse file")
        member: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        return member

    def _proc_gnusparse_10(self, *_: object) -> None:
        raise _HeaderRefused("one of its members is a sparse file")


def _open(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(info)
    assert content is not None  # of a regular file
    return content


def _reason(error: Exception) -> str:
    return str(error).split("\n", 1)[0] or type(error).__name__
