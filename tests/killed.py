"""Repeat runs in child processes that are killed.

The program forks, so that no attempt imports anything. It prints, as JSON, the kills and the final result of each run.
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

from benchmark.experiment.planning import make_plan
from benchmark.experiment.request import Request
from benchmark.experiment.runner import RunContext, run
from benchmark.records.schema import determined
from benchmark.records.store import Store
from benchmark.system.progress import Silent
from benchmark.training import select_device

SETTINGS = (
    "training.batch_size=8", "training.steps=4", "teacher.steps=3", "student.backbone=wrn-10-1",
    "teacher.backbone=conv4-16",
)  # fmt: skip


class Attempts:
    """One run, attempted in child processes that share a folder until it is done."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.plan = make_plan(Request("distill-overlap50", "refilled", "tiny", "quick", SETTINGS), root)
        self.device = select_device("cpu", "float32")
        self.killed = 0

    def run_once(self) -> None:
        """Make one attempt in this process, with a checkpoint after every step."""
        context = RunContext(Store(self.root / "runs"), self.root, self.device, Silent(), checkpoint_every=0.0)
        run(self.plan, [3], context)

    def attempt(self, prepare: Callable[[], None] | None = None, after: float | None = None) -> bool:
        """Make one attempt in a child process.

        Args:
            prepare: Called in the child before the attempt.
            after: Seconds until the child is killed.

        Returns:
            Whether the run is done.
        """
        child = os.fork()
        if child == 0:
            status = 1
            try:
                if prepare is not None:
                    prepare()
                self.run_once()
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
        """Return what the run determined, how often it was killed, and the names of all files."""
        store = Store(self.root / "runs")
        (record,), damaged = store.read()
        assert not damaged
        arrays = {name: base64.b64encode(x.tobytes()).decode() for name, x in store.arrays(record).items()}
        left = sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file())
        return {
            "killed": self.killed, "left": left,
            "determined": {**determined(record), "key": record["key"], **arrays},
        }  # fmt: skip


def at_random_moments(root: Path) -> Iterator[Attempts]:
    """Kill attempts some time after their start, until enough are killed."""
    rng, killed, number = random.Random(5), 0, 0
    while killed < 8:
        attempts, latest = Attempts(root / f"random-{number}"), 0.3
        while not attempts.attempt(after=rng.uniform(0.02, latest)):
            latest *= 1.1  # on a busy machine an attempt may need more time to reach its first step
        killed, number = killed + attempts.killed, number + 1
        yield attempts


def in_writes(root: Path) -> Iterator[Attempts]:
    """Kill a run for every file that it writes, when half of the file is on disk."""
    for number in range(1, 1000):
        attempts = Attempts(root / f"write-{number}")

        def kill_self(at: int = number) -> None:
            real, count = os.fsync, [0]

            def fsync(file: int) -> None:
                count[0] += 1
                if count[0] == at:
                    os.ftruncate(file, os.fstat(file).st_size // 2)
                    os.kill(os.getpid(), signal.SIGKILL)
                real(file)

            os.fsync = fsync

        if attempts.attempt(kill_self):
            return
        while not attempts.attempt():
            pass
        yield attempts


def between_files(root: Path) -> Iterator[Attempts]:
    """Kill a run before every third renaming of a file, creation of a folder and removal."""
    events = "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"
    for number in range(1, 1000, 3):
        attempts = Attempts(root / f"event-{number}")

        def kill_self(at: int = number) -> None:
            count = [0]

            def hook(event: str, _: tuple[Any, ...]) -> None:
                if event in events:
                    count[0] += 1
                    if count[0] == at:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(hook)

        if attempts.attempt(kill_self):
            return
        while not attempts.attempt():
            pass
        yield attempts


def main() -> None:
    root = Path(sys.argv[1])
    Attempts(root / "warm").run_once()  # so that children inherit all imports
    whole = Attempts(root / "whole")
    assert whole.attempt()
    series: dict[str, Any] = {"whole": [whole.result()]}
    for make in (at_random_moments, in_writes, between_files):
        series[make.__name__] = [attempts.result() for attempts in make(root)]
    json.dump(series, sys.stdout)


if __name__ == "__main__":
    main()
