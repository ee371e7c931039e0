from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SERIES = "at_random_moments", "in_writes", "between_files"


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    root = Path(__file__).parents[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    program = [sys.executable, "-m", "tests.killed", str(tmp_path_factory.mktemp("killed"))]
    done = subprocess.run(program, cwd=root, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[dict[str, Any]]] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", SERIES)
def test_killed_run_ends_bit_for_bit_equal(series: dict[str, list[dict[str, Any]]], name: str) -> None:
    (whole,) = series["whole"]
    assert whole["determined"]["status"] == "done"
    for result in series[name]:
        assert result["determined"] == whole["determined"]


@pytest.mark.slow
def test_kills_hit_every_write(series: dict[str, list[dict[str, Any]]]) -> None:
    assert sum(result["killed"] for result in series["at_random_moments"]) >= 8
    # 3 + 4 checkpoints of two files, a teacher of two, a record of two
    assert len(series["in_writes"]) == 2 * (3 + 4) + 2 + 2
    assert len(series["between_files"]) > 15
    assert all(result["killed"] == 1 for name in SERIES[1:] for result in series[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SERIES)
def test_killed_run_leaves_no_files(series: dict[str, list[dict[str, Any]]], name: str) -> None:
    kept = [path for path in series["whole"][0]["left"] if ".claims" not in path]
    for result in series[name]:
        assert [path for path in result["left"] if ".claims" not in path] == kept
