"""One lock per run: processes that share a results folder never run the same spec twice."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import filelock

from benchmark.errors import InputError, os_reason
from benchmark.system.files import mode_of_new_files

RunLock = AbstractContextManager[object]
"""A held lock. It is released at the end of its ``with`` block, or when its process ends."""


class RunLocks:
    """A folder with one lock file per run, named by the first 16 digits of the run's key.

    The operating system releases the locks of a process that ends, even if it is killed. Over NFS the locks hold
    between machines if the server supports that. Lock files stay in the folder: deleting a file that another process
    has open would let two processes hold "the" lock.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def try_acquire(self, key: str) -> RunLock | None:
        """Lock a run, or return None if another process holds its lock."""
        try:
            return self._acquire(key, blocking=False)
        except filelock.Timeout:
            return None

    def acquire(self, key: str) -> RunLock:
        """Lock a run; wait while another process holds its lock."""
        return self._acquire(key, blocking=True)

    def is_locked(self, key: str) -> bool:
        """Return whether some process holds the lock of a run. This creates no file and changes none."""
        path = self._path(key)
        if not path.exists():
            return False
        try:
            with self._lock(path).acquire(blocking=False):
                return False
        except filelock.Timeout:
            return True
        except OSError:  # a file that this user may not open
            return False

    def _acquire(self, key: str, *, blocking: bool) -> RunLock:
        path = self._path(key)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            return self._lock(path).acquire(blocking=blocking)
        except filelock.Timeout:
            raise
        except PermissionError:
            raise InputError(
                f"cannot lock {path}: it belongs to another user; let them allow writing (chmod -R g+w {self.root}), "
                "or use --results DIR"
            ) from None
        except OSError as error:
            raise InputError(
                f"cannot lock {path} ({os_reason(error)}); use --results DIR on a file system with locks"
            ) from None

    @staticmethod
    def _lock(path: Path) -> filelock.BaseFileLock:
        # a file system without locks must be an error: a marker file in their place would outlive a killed process
        return filelock.FileLock(path, thread_local=False, fallback_to_soft=False, mode=mode_of_new_files())

    def _path(self, key: str) -> Path:
        return self.root / key[:16]
