"""Who is at which run: a lock a run, so that processes which share a folder of results never do one twice."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

from benchmark.errors import InputError

_POLL_SECONDS = 0.2


class RunLock:
    """A run that is this process's. It ends with the ``with`` block, or with the process, however that ends."""

    def __init__(self, path: Path, handle: int) -> None:
        self._path = path
        self._handle = handle

    def __enter__(self) -> RunLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # the name goes while the lock is held: who has opened the file meanwhile sees that it has none, and opens anew
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        os.close(self._handle)


class RunLocks:
    """A folder of empty files named by the beginning of a run's key, each locked while somebody is at that run.

    The locks are ``flock``'s. They end with the process that holds them; over NFS they hold between machines, as the
    server has them. A file that a killed process left is unlocked and means nothing; the next claim of that run takes
    it away.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def try_acquire(self, key: str) -> RunLock | None:
        """The claim on a run, or None where another has it."""
        path = self._path(key)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            while True:
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if _is(path, handle):
                        return RunLock(path, handle)
                    os.close(handle)
                except BlockingIOError:
                    os.close(handle)
                    return None
                except BaseException:
                    os.close(handle)
                    raise
        except OSError as error:
            raise InputError(
                f"cannot lock {path} ({error.strerror or error}); use --results DIR on a file system with locks"
            ) from None

    def acquire(self, key: str) -> RunLock:
        """The claim on a run, as soon as nobody else has it."""
        while True:
            lock = self.try_acquire(key)
            if lock is not None:
                return lock
            time.sleep(_POLL_SECONDS)

    def is_locked(self, key: str) -> bool:
        """Whether some process is at this run now. Nothing is made or changed for the answer."""
        try:
            handle = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    def _path(self, key: str) -> Path:
        return self.root / key[:16]


def _is(path: Path, handle: int) -> bool:
    """Whether the open file is still the one that has this name."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return False
        raise
