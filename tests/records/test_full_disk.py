from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.records.store import Store
from tests.cli.conftest import Call, call

__all__ = ["call"]

RUN = "run", "--protocol", "distill-cross", "--dataset", "tiny", "--limit-steps", "3"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here ({error})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    path = folder / "filler"
    with open(path, "wb", buffering=0) as file:
        while file.write(bytes(1 << 20)) == 1 << 20:  # what is written short is all there was room for
            pass
    return path


def test_run_names_a_full_results_folder_and_keeps_earlier_records(call: Call, small: Path) -> None:
    results = str(small / "runs")
    assert call(*RUN, "--method", "ce", "--results", results).returncode == 0
    before = {path.name: path.read_bytes() for path in Path(results).iterdir() if path.is_file()}
    filler = fill(small)
    done = call(*RUN, "--method", "fitnet", "--results", results)
    assert done.returncode == 2
    assert "No space left on device" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert {path.name: path.read_bytes() for path in Path(results).iterdir() if path.is_file()} == before
    filler.unlink()
    again = call(*RUN, "--method", "fitnet", "--results", results)
    assert again.returncode == 0, again.stderr
    assert {record["method"] for record in Store(Path(results)).read()[0]} == {"ce", "fitnet"}


def test_run_resumes_after_a_full_disk_without_training_again(call: Call, small: Path, tmp_path: Path) -> None:
    results = small / "runs"
    results.mkdir()
    filler = fill(small)
    filler.write_bytes(filler.read_bytes()[:-8192])  # enough to begin, too little for the record
    assert call(*RUN, "--method", "ce", "--results", str(results)).returncode == 2
    filler.unlink()
    again = call(*RUN, "--method", "ce", "--results", str(results))
    assert again.returncode == 0
    assert "resumes at step 3 of 3" in again.stderr


def test_run_names_a_full_data_folder(call: Call, small: Path) -> None:
    fill(small)
    done = call(*RUN, "--method", "rkd", "--data", str(small))
    assert done.returncode == 2
    assert "No space left on device" in done.stderr.splitlines()[-1]
    assert "--data" in done.stderr.splitlines()[-1]
