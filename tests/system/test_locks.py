from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmark.errors import InputError
from benchmark.system.locks import RunLocks

KEY, OTHER = "a" * 64, "b" * 64
HOLDER = """
import sys, time
from pathlib import Path
from benchmark.system.locks import RunLocks
with RunLocks(Path(sys.argv[1])).try_acquire(sys.argv[2]):
    print("locked", flush=True)
    time.sleep(600)
"""


def test_a_lock_excludes_others_until_it_is_released(tmp_path: Path) -> None:
    locks, others = RunLocks(tmp_path / "claims"), RunLocks(tmp_path / "claims")
    assert not locks.is_locked(KEY)
    first = locks.try_acquire(KEY)
    assert first is not None
    with first:
        assert others.try_acquire(KEY) is None
        assert others.is_locked(KEY)
        assert not others.is_locked(OTHER)
        with others.acquire(OTHER):
            assert locks.try_acquire(OTHER) is None
    assert not others.is_locked(KEY)
    assert not locks.is_locked("c" * 64)
    names = {path.name for path in (tmp_path / "claims").iterdir()}
    assert names == {KEY[:16], OTHER[:16]}, "lock files stay; asking for a lock creates none"


def test_a_killed_process_loses_its_lock(tmp_path: Path) -> None:
    locks = RunLocks(tmp_path)
    words = [sys.executable, "-c", HOLDER, str(tmp_path), KEY]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        assert locks.try_acquire(KEY) is None
        assert locks.is_locked(KEY)
        process.kill()
    assert not locks.is_locked(KEY)
    lock = locks.try_acquire(KEY)
    assert lock is not None
    with lock:
        assert locks.is_locked(KEY)


def test_threads_that_compete_hold_a_lock_one_at_a_time(tmp_path: Path) -> None:
    inside = max_inside = rounds = 0
    guard = threading.Lock()

    def compete() -> None:
        nonlocal inside, max_inside, rounds
        locks = RunLocks(tmp_path)
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            lock = locks.try_acquire(KEY)
            if lock is None:
                continue
            with lock:
                with guard:
                    inside += 1
                    max_inside = max(max_inside, inside)
                    rounds += 1
                time.sleep(0)
                with guard:
                    inside -= 1

    threads = [threading.Thread(target=compete) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max_inside == 1
    assert rounds > 20


def test_a_folder_without_locks_is_an_input_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="cannot lock /dev/null/claims"):
        RunLocks(Path("/dev/null/claims")).try_acquire(KEY)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(InputError, match=r"Function not implemented\); use --results DIR on a file system with locks"):
        RunLocks(tmp_path).acquire(KEY)


def test_a_lock_may_be_released_in_another_thread(tmp_path: Path) -> None:
    locks = RunLocks(tmp_path)
    lock = locks.acquire(KEY)
    thread = threading.Thread(target=lock.__exit__, args=(None, None, None))
    thread.start()
    thread.join()
    assert not locks.is_locked(KEY)
