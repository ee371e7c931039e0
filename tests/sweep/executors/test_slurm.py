"""The executor for clusters, on a real SLURM of one node."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmark.records.store import Store
from tests.sweep.executors.slurm_node import missing_daemons, one_node

pytestmark = pytest.mark.slurm
pytest.importorskip("submitit")

QUICK = ["teacher.steps=5", "training.steps=5", "training.batch_size=8"]
LONG = ["teacher.steps=5", "training.steps=400", "training.batch_size=32"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """The environment in which commands find the cluster."""
    if missing := missing_daemons():
        pytest.skip(f"no {', '.join(missing)} (Debian: apt-get install slurmctld slurmd slurm-client munge)")
    if os.geteuid() != 0:
        pytest.skip("SLURM's daemons are started by root")
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, one_node(Path(folder)) as environment:
        yield {**os.environ, **environment, "PYTHONPATH": os.pathsep.join(sys.path)}


class Sweep:
    """A sweep in a process of its own, over blocks of distill-same on the synthetic set."""

    def __init__(self, cluster: dict[str, str], folder: Path, blocks: list[dict[str, Any]], *words: str) -> None:
        self.folder = folder
        self.cluster = cluster
        grid = folder / "grid.yaml"
        grid.write_text(
            yaml.safe_dump([{"protocols": "distill-same", "datasets": "tiny", **block} for block in blocks])
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmark", "sweep", "--grid", str(grid), *words],
            cwd=folder, env={**cluster, "BENCHMARK_DATA": str(folder / "data")}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def end(self) -> tuple[int, str]:
        """Wait for the end; return exit status and output."""
        try:
            out, errors = self.process.communicate(timeout=400)
        finally:
            self.process.kill()
        return self.process.returncode, out + errors

    def wait_for_a_run(self) -> str:
        """Wait until the only job is training; return its number."""
        until = time.monotonic() + 180
        while time.monotonic() < until:
            if any((self.folder / "results/runs/.claims").glob("*")):
                time.sleep(1.0)  # the training has begun
                return self.ask("squeue", "-h", "-o", "%i").strip()
            time.sleep(0.05)
        self.process.kill()
        raise TimeoutError(f"no run began\n{self.process.communicate()}")

    def ask(self, *command: str) -> str:
        return subprocess.run(command, env=self.cluster, check=True, capture_output=True, text=True).stdout

    @property
    def store(self) -> Store:
        return Store(self.folder / "results/runs")


On = Callable[..., Sweep]


@pytest.fixture
def sweep(cluster: dict[str, str], tmp_path: Path) -> On:
    def begin(*blocks: dict[str, Any]) -> Sweep:
        return Sweep(cluster, tmp_path, list(blocks), "--executor", "slurm", "--slurm-time", "10", "-j", "2")

    return begin


def test_slurm_array_completes_and_reports_a_failed_run(sweep: On) -> None:
    good = {"methods": ["ce", "kd"], "set": QUICK, "slurm": {"cpus": 1}}
    bad = {"methods": ["ce"], "set": [*QUICK, "training.lr=1e30"]}
    swept = sweep(good, bad)
    status, said = swept.end()
    assert status == 1, said
    assert "2 of 3 done, 1 failed" in said
    assert "error: distill-same tiny ce s0 failed: DivergedError" in said
    records, damaged = swept.store.read()
    assert not damaged
    assert sorted((r["method"], r["status"]) for r in records) == [("ce", "done"), ("ce", "failed"), ("kd", "done")]
    left = [path.name for path in (swept.store.root / ".slurm").iterdir()]
    assert len([name for name in left if name.endswith("_log.err")]) == 1, "only the failed run's files are kept"


def process_of(job: str) -> int:
    """The Python process of a job."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0] == sys.executable.encode() and f"SLURM_JOB_ID={job}".encode() in environment:
            return int(folder.name)
    raise ProcessLookupError(job)


def test_slurm_submits_a_killed_job_again(sweep: On) -> None:
    swept = sweep({"methods": "ce", "set": LONG})
    job = swept.wait_for_a_run()
    os.kill(process_of(job), signal.SIGKILL)
    status, said = swept.end()
    assert status == 0, said
    assert f"job {job} ended as FAILED; submitted again" in said
    assert [r["status"] for r in swept.store.read()[0]] == ["done"]


def test_slurm_queues_a_preempted_job_again_with_the_uninterrupted_result(
    sweep: On, cluster: dict[str, str], tmp_path: Path
) -> None:
    swept = sweep({"methods": "ce", "set": LONG})
    job = swept.wait_for_a_run()
    swept.ask("scancel", "--signal=TERM", job)  # a partition that pre-empts sends this first
    swept.ask("scancel", "--signal=USR2", job)
    until = time.monotonic() + 20
    while not (kept := list((tmp_path / "data/checkpoints").rglob("*.safetensors"))) and time.monotonic() < until:
        time.sleep(0.1)
    assert kept, "the run ended in order and left a checkpoint"
    alone = tmp_path / "alone"
    alone.mkdir()
    straight = Sweep(cluster, alone, [{"methods": "ce", "set": LONG}], "--executor", "local", "-j", "2")
    status, said = swept.end()
    assert status == 0, said
    assert "Restarts=1" in swept.ask("scontrol", "-o", "show", "job", job)
    (record,) = swept.store.read()[0]
    status, said = straight.end()
    assert status == 0, said
    (other,) = straight.store.read()[0]
    for name in ("key", "value", "intervals", "references", "history"):
        assert record[name] == other[name]
    mine, theirs = swept.store.arrays(record), straight.store.arrays(other)
    assert {name: a.tobytes() for name, a in mine.items()} == {name: a.tobytes() for name, a in theirs.items()}


def test_slurm_cancels_its_jobs_on_interruption(sweep: On) -> None:
    swept = sweep({"methods": "ce", "set": LONG, "seeds": "0-2"})
    job = swept.wait_for_a_run()
    assert job
    swept.process.terminate()
    status, said = swept.end()
    assert status == 130, said
    until = time.monotonic() + 180
    while swept.ask("squeue", "-h") and time.monotonic() < until:
        time.sleep(0.2)
    assert not swept.ask("squeue", "-h")
