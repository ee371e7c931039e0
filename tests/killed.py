"""Runs in processes that are killed: a program of its own, which forks so that no attempt has to import anything.

Prints, for every series of attempts, how many were killed and what came of it in the end, as JSON.
"""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmark.experiment.runner import Plan, Request, run
from benchmark.records.store import Store
from benchmark.system.progress import Silent
from benchmark.training import select_device

COMPARED = ("status", "metric", "value", "n", "intervals", "references", "facts", "history", "key")
SETTINGS = (
    "training.batch_size=8", "training.steps=4", "teacher.steps=3", "student.backbone=wrn-10-1",
    "teacher.backbone=conv4-16",
)  # fmt: skip


class Attempts:
    """One run, attempted in child processes over one folder until it is done."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.plan = Plan(Request("distill-overlap50", "refilled", "tiny", "quick", SETTINGS), root)
        self.device = select_device("cpu", "float32")
        self.killed = 0

    def carry_out(self) -> None:
        """One attempt, in this process, with a checkpoint after every step."""
        run(
            self.plan, [3], store=Store(self.root / "runs"), data_root=self.root, device=self.device,
            progress=Silent(), checkpoint_every=0.0,
        )  # fmt: skip

    def attempt(self, prepare: Callable[[], None] | None = None, after: float | None = None) -> bool:
        """Whether it is done now. ``prepare`` is called in the child; ``after``: seconds until it is killed."""
        child = os.fork()
        if child == 0:
            status = 1
            try:
                if prepare is not None:
                    prepare()
                self.carry_out()
                status = 0
            finally:
                os._exit(status)
        if after is not None:
            time.sleep(after)
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            self.killed += 1
            return False
        assert os.WEXITSTATUS(status) == 0, "an attempt failed"
        return True

    def result(self) -> dict[str, Any]:
        """What the run determined, how often it was killed, and the names of all files that are left."""
        store = Store(self.root / "runs")
        (record,), damaged = store.read()
        assert not damaged
        arrays = {name: base64.b64encode(x.tobytes()).decode() for name, x in store.arrays(record).items()}
        left = sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file())
        return {
            "killed": self.killed, "left": left,
            "determined": {**{name: record[name] for name in COMPARED}, **arrays},
        }  # fmt: skip


def at_random_moments(root: Path) -> Iterator[Attempts]:
    """Killed some time after the start, over again, until so many have been killed."""
    rng, killed, number = random.Random(5), 0, 0
    while killed < 8:
        attempts, latest = Attempts(root / f"random-{number}"), 0.3
        while not attempts.attempt(after=rng.uniform(0.02, latest)):
            latest *= 1.1  # on a busy machine an attempt may need more time to get anywhere
        killed, number = killed + attempts.killed, number + 1
        yield attempts


def in_writes(root: Path) -> Iterator[Attempts]:
    """For every file that a run writes: killed when half of it is on disk."""
    for number in range(1, 1000):
        attempts = Attempts(root / f"write-{number}")

        def break_off(at: int = number) -> None:
            real, count = os.fsync, [0]

            def fsync(file: int) -> None:
                count[0] += 1
                if count[0] == at:
                    os.ftruncate(file, os.fstat(file).st_size // 2)
                    os.kill(os.getpid(), signal.SIGKILL)
                real(file)

            os.fsync = fsync

        if attempts.attempt(break_off):
            return
        while not attempts.attempt():
            pass
        yield attempts


def between_files(root: Path) -> Iterator[Attempts]:
    """Killed just before a file gets its name, a folder is made, something is removed: at every third of these."""
    events = "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"
    for number in range(1, 1000, 3):
        attempts = Attempts(root / f"event-{number}")

        def break_off(at: int = number) -> None:
            count = [0]

            def hook(event: str, _: tuple[Any, ...]) -> None:
                if event in events:
                    count[0] += 1
                    if count[0] == at:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(hook)

        if attempts.attempt(break_off):
            return
        while not attempts.attempt():
            pass
        yield attempts


def main() -> None:
    root = Path(sys.argv[1])
    Attempts(root / "warm").carry_out()  # children find everything imported
    whole = Attempts(root / "whole")
    assert whole.attempt()
    series: dict[str, Any] = {"whole": [whole.result()]}
    for make in (at_random_moments, in_writes, between_files):
        series[make.__name__] = [attempts.result() for attempts in make(root)]
    json.dump(series, sys.stdout)


if __name__ == "__main__":
    main()
