from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmark.claims import Claims
from benchmark.errors import InputError

KEY, OTHER = "a" * 64, "b" * 64
HOLDER = """
import sys, time
from pathlib import Path
from benchmark.claims import Claims
with Claims(Path(sys.argv[1])).take(sys.argv[2]):
    print("taken", flush=True)
    time.sleep(600)
"""


def test_one_at_a_time_has_a_run(tmp_path: Path) -> None:
    claims, others = Claims(tmp_path / "claims"), Claims(tmp_path / "claims")
    assert not claims.held(KEY)
    first = claims.take(KEY)
    assert first is not None
    with first:
        assert others.take(KEY) is None
        assert others.held(KEY)
        assert not others.held(OTHER)
        with others.wait_for(OTHER):
            assert claims.take(OTHER) is None
    assert not others.held(KEY)
    assert not list((tmp_path / "claims").iterdir()), "nothing is left behind"


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    words = [sys.executable, "-c", HOLDER, str(tmp_path), KEY]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        assert claims.take(KEY) is None
        assert claims.held(KEY)
        process.kill()
    assert not claims.held(KEY)
    claim = claims.take(KEY)
    assert claim is not None
    with claim:
        pass
    assert not list(tmp_path.iterdir())


def test_files_that_come_and_go_exclude_all_but_one(tmp_path: Path) -> None:
    """Each claim unlinks its file, which others have open: none of them may take the nameless file for the lock."""
    inside = most = rounds = 0
    guard = threading.Lock()

    def compete() -> None:
        nonlocal inside, most, rounds
        claims = Claims(tmp_path)
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            claim = claims.take(KEY)
            if claim is None:
                continue
            with claim:
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
        Claims(Path("/dev/null/claims")).take(KEY)
