"""Atomic writes, and names for damaged files."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from pathlib import Path


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
