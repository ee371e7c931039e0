"""Bounded reads, atomic writes, names for damaged files, and files of users."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO


class NotAFile(OSError):
    """A path that is no regular file, or a file that is larger than what is expected there can be."""


def read_file(path: Path, limit: int) -> bytes:
    """Read a regular file of at most ``limit`` bytes. A FIFO or a device is refused without waiting for it.

    Raises:
        NotAFile: the path is a folder, a FIFO or a device, or the file is larger.
        OSError: the file cannot be read.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise NotAFile(errno.EINVAL, "it is no regular file")
        if status.st_size > limit:
            raise NotAFile(errno.EFBIG, f"it has {status.st_size:,} bytes, more than {limit:,}")
        with os.fdopen(os.dup(handle), "rb") as file:
            return file.read(limit)
    finally:
        os.close(handle)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under a temporary name in the same folder, flush it to disk, then rename it."""
    handle, scratch = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(scratch, 0o666 & ~mask)
        os.replace(scratch, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(scratch)
        raise


def set_aside(path: Path) -> Path:
    """Rename a damaged file or folder to the first free of ``NAME.damaged``, ``NAME.damaged-2``, ... and return it."""
    names = (path.with_name(f"{path.name}.damaged" + (f"-{n}" if n > 1 else "")) for n in itertools.count(1))
    aside = next(name for name in names if not name.exists())
    path.rename(aside)
    return aside


def open_plain(path: Path) -> BinaryIO:
    """Open a file of the user for reading, without waiting for what is no plain file.

    Raises:
        OSError: the file cannot be opened, or is a folder, FIFO, device or socket.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    raise OSError(errno.EINVAL, "it is no plain file", str(path))


def expand_user(path: str | Path) -> Path:
    """Return the path with a leading ``~`` or ``~NAME`` replaced; the home of an unknown user is left as it stands."""
    return Path(os.path.expanduser(path))
