"""Throughput of two workers with one thread each against one worker: at least 1.7 times, on two idle cores."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from benchmark.sweep.executors.base import Executor, SweepConfig
from benchmark.sweep.executors.local import Local
from benchmark.sweep.grid import GridBlock
from benchmark.sweep.jobs import Job, plan_jobs
from benchmark.system.progress import Silent

ROUNDS = 3
RUNS = 8


def statuses(executor: Executor, jobs: Sequence[Job]) -> list[str]:
    return [outcome.status for outcome in executor.run(jobs, lambda job, event: None)]


def test_two_workers_against_one(tmp_path: Path) -> None:
    """Workers and teacher are ready before the clock starts. Rounds alternate, so other load slows down both sides."""
    os.environ["OMP_NUM_THREADS"] = "1"
    settings = ("training.steps=300", "teacher.steps=5")
    block = GridBlock(("distill-same",), ("ce",), ("glyphs",), tuple(range(2 + 2 * ROUNDS * RUNS)), set=settings)
    jobs = list(plan_jobs([block], tmp_path, Silent()).jobs)
    config = SweepConfig(tmp_path / "runs", tmp_path, "cpu")
    config.results.mkdir()
    rates: dict[int, list[float]] = {1: [], 2: []}
    with Local(config, 1) as one, Local(config, 2) as two:
        for executor, count in ((one, 1), (two, 2)):
            assert statuses(executor, jobs[-count:]) == ["done"] * count
        del jobs[-2:]
        for _ in range(ROUNDS):
            for executor, count in ((one, 1), (two, 2)):
                batch = [jobs.pop() for _ in range(RUNS)]
                began = time.perf_counter()
                assert set(statuses(executor, batch)) == {"done"}
                rates[count].append(RUNS / (time.perf_counter() - began))
    ratios = [b / a for a, b in zip(rates[1], rates[2], strict=True)]
    print(f"\nload {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores at the end")
    print(f"runs per second: one worker {rates[1]}, two {rates[2]}")
    print(f"two against one: {', '.join(f'{ratio:.2f}' for ratio in ratios)}; median {statistics.median(ratios):.2f}")
