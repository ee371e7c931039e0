from __future__ import annotations

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
    print("taken", flush=True)
    time.sleep(600)
"""


def test_one_at_a_time_has_a_run(tmp_path: Path) -> None:
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
    assert not list((tmp_path / "claims").iterdir()), "nothing is left behind"


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    locks = RunLocks(tmp_path)
    words = [sys.executable, "-c", HOLDER, str(tmp_path), KEY]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        assert locks.try_acquire(KEY) is None
        assert locks.is_locked(KEY)
        process.kill()
    assert not locks.is_locked(KEY)
    lock = locks.try_acquire(KEY)
    assert lock is not None
    with lock:
        pass
    assert not list(tmp_path.iterdir())


def test_files_that_come_and_go_exclude_all_but_one(tmp_path: Path) -> None:
    """Each claim unlinks its file, which others have open: none of them may take the nameless file for the lock."""
    inside = most = rounds = 0
    guard = threading.Lock()

    def compete() -> None:
        nonlocal inside, most, rounds
        locks = RunLocks(tmp_path)
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            lock = locks.try_acquire(KEY)
            if lock is None:
                continue
            with lock:
                with guard:
                    inside += 1
                    most = max(most, inside)
                    rounds += 1
                time.sleep(0)
                with guard:
                    inside -= 1

    threads = [threading.Thread(target=compete) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert rounds > 20
    assert not list(tmp_path.iterdir())


def test_a_place_without_locks_is_told() -> None:
    with pytest.raises(InputError, match="cannot lock /dev/null/claims"):
        RunLocks(Path("/dev/null/claims")).try_acquire(KEY)
