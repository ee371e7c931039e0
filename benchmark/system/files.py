"""Bounded reads, atomic writes, and names of files."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import re
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO


class NotAFile(OSError):
    """A path that is no plain file, or a file that is larger than what is expected there can be."""


def read_file(path: Path, limit: int) -> bytes:
    """Read a regular file of at most ``limit`` bytes. A FIFO or a device is refused without waiting for it.

    Raises:
        NotAFile: the path is a folder, a FIFO or a device, or the file is larger.
        OSError: the file cannot be read.
    """
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise NotAFile(errno.EFBIG, f"it has {size:,} bytes, more than {limit:,}")
        return file.read(limit)


def mode_of_new_files() -> int:
    """Return the permissions that the user's umask gives to a new file."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under a temporary name in the same folder, flush it to disk, then rename it."""
    handle, scratch = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(scratch, mode_of_new_files())
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
        NotAFile: it is a folder, FIFO, device or socket.
        OSError: it cannot be opened.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    raise NotAFile(errno.EINVAL, "it is no plain file", str(path))


def expand_user(path: str | Path) -> Path:
    """Return the path with a leading ``~`` or ``~NAME`` replaced; the home of an unknown user is left as it stands."""
    return Path(os.path.expanduser(path))


def plain_name(text: str, longest: int = 100) -> str:
    """Return text as part of a file name that every file system, shell and copying program takes.

    It has letters, digits, dots, hyphens and underscores of ASCII only, and does not begin with a dot or hyphen.

    Args:
        text: anything.
        longest: the largest number of characters of the result.
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip(".-")[:longest] or "_"


def file_name(text: str, longest: int = 100) -> str:
    """Return ``plain_name(text)``, with a hash of the text if that differs from it: other text, other name."""
    name = plain_name(text, longest)
    if name == text:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name[: longest - 9]}-{digest}"
