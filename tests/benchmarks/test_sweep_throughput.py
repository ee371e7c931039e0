"""How much more two workers with one thread each get done than one: at least 1.7 times, on two idle cores."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

from benchmark.sweep.execution import Quiet
from benchmark.sweep.executors.base import Job, Setting
from benchmark.sweep.executors.local import Local
from benchmark.sweep.grid import GridBlock
from benchmark.sweep.jobs import plan_cells
from benchmark.system.progress import Silent

ROUNDS = 3
RUNS = 8


def test_two_workers_against_one(tmp_path: Path) -> None:
    """Workers are started and a teacher trained before the clock; rounds alternate, so that a busy machine is busy for
    both."""
    os.environ["OMP_NUM_THREADS"] = "1"
    settings = ("training.steps=300", "teacher.steps=5")
    block = GridBlock(("distill-same",), ("ce",), ("glyphs",), tuple(range(2 + 2 * ROUNDS * RUNS)), set=settings)
    cells = list(plan_cells([block], tmp_path, Silent()).cells)
    setting = Setting(tmp_path / "runs", tmp_path, "cpu")
    setting.results.mkdir()
    rates: dict[int, list[float]] = {1: [], 2: []}
    with Local(setting, 1) as one, Local(setting, 2) as two:
        for executor, count in ((one, 1), (two, 2)):
            warm = [Job(cells[-1 - n]) for n in range(2)]
            assert [o.status for o in executor.carry_out(warm[:count], Quiet())] == ["done"] * count
        del cells[-2:]
        for _ in range(ROUNDS):
            for executor, count in ((one, 1), (two, 2)):
                jobs = [Job(cells.pop()) for _ in range(RUNS)]
                began = time.perf_counter()
                assert {o.status for o in executor.carry_out(jobs, Quiet())} == {"done"}
                rates[count].append(RUNS / (time.perf_counter() - began))
    ratios = [b / a for a, b in zip(rates[1], rates[2], strict=True)]
    print(f"\nload {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores at the end")
    print(f"runs per second: one worker {rates[1]}, two {rates[2]}")
    print(f"two against one: {', '.join(f'{ratio:.2f}' for ratio in ratios)}; median {statistics.median(ratios):.2f}")
