"""Workers on this machine, as processes: what they make, how they die, what they leave."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.experiment.measurement import measure
from benchmark.records.store import Store
from benchmark.sweep.execution import Quiet, carry_out
from benchmark.sweep.executors import local
from benchmark.sweep.executors.base import Executor, Job, Outcome, Setting
from benchmark.sweep.executors.local import Local, surroundings, threads_each
from benchmark.sweep.executors.serial import Serial
from benchmark.sweep.grid import GridBlock
from benchmark.sweep.jobs import Cell, plan_cells
from benchmark.system.progress import Silent

SMALL = ("training.batch_size=8", "teacher.steps=40", "training.steps=10")


def cells(methods: str = "ce kd", seeds: int = 2, settings: tuple[str, ...] = SMALL) -> tuple[Cell, ...]:
    block = GridBlock(("distill-same",), tuple(methods.split()), ("tiny",), tuple(range(seeds)), set=settings)
    return plan_cells([block], Path("nowhere"), Silent()).cells


def setting(folder: Path) -> Setting:
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    return Setting(folder / "runs", folder / "data", "cpu")


class Seen(Quiet):
    """Remembers the beginnings of pieces of work, and calls ``act`` at the first."""

    def __init__(self, act: Callable[[Cell], object] = lambda cell: None) -> None:
        self.began: list[tuple[int, str]] = []
        self.lines: list[str] = []
        self._act = act

    def advanced(self, cell: Cell, title: str, done: int, steps: int, facts: str) -> None:
        if done == 0:
            self.began.append((cell.seed, title))
            if len(self.began) == 1:
                self._act(cell)

    def said(self, message: str) -> None:
        self.lines.append(message)


def came(executor: Executor, chosen: tuple[Cell, ...], watch: Seen | None = None) -> dict[str, Outcome]:
    return {str(cell): outcome for cell, outcome in carry_out(chosen, executor, watch or Seen())}


def kill_workers(cell: Cell) -> None:
    for process in multiprocessing.active_children():
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)


def test_workers_make_what_one_process_makes_and_train_a_teacher_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "usable_cores", lambda: 2)
    chosen = cells()
    seen = Seen()
    outcomes = came(Local(setting(tmp_path / "two"), 2), chosen, seen)
    alone = came(Serial(setting(tmp_path / "one")), chosen)
    assert {name: o.status for name, o in outcomes.items()} == dict.fromkeys(map(str, chosen), "done")
    assert [title for _, title in seen.began].count("teacher conv4-64") == 1
    assert {name: o.value for name, o in outcomes.items()} == {name: o.value for name, o in alone.items()}
    mine, theirs = ({r["key"]: r for r in Store(tmp_path / n / "runs").read()[0]} for n in ("two", "one"))
    assert set(mine) == set(theirs) == {cell.key for cell in chosen}
    for key, record in mine.items():
        assert record["history"] == theirs[key]["history"]
        assert record["environment"]["threads"] == 1
    assert not multiprocessing.active_children()


def test_a_run_whose_worker_is_killed_is_given_to_another(tmp_path: Path) -> None:
    chosen = cells("ce", 1)
    seen = Seen(kill_workers)
    outcomes = came(Local(setting(tmp_path), 1, retries=1), chosen, seen)
    assert [o.status for o in outcomes.values()] == ["done"]
    assert seen.lines == ["distill-same tiny ce s0: its worker was killed by SIGKILL; once more"]
    assert not list((tmp_path / "runs/.claims").iterdir())


def test_one_that_is_killed_each_time_fails_and_the_others_go_on(tmp_path: Path) -> None:
    chosen = cells("ce", 2)

    class Deadly(Seen):
        def advanced(self, cell: Cell, title: str, done: int, steps: int, facts: str) -> None:
            if cell.seed == 0:
                kill_workers(cell)

    outcomes = came(Local(setting(tmp_path), 1, retries=0), chosen, Deadly())
    assert outcomes[str(chosen[1])].status == "done"
    lost = outcomes[str(chosen[0])]
    assert lost.status == "failed"
    assert "killed by SIGKILL" in lost.error


def test_failures_are_outcomes(tmp_path: Path) -> None:
    bad = cells("ce", 1, (*SMALL, "training.lr=1e30"))
    outcomes = carry_out((*bad, *cells("ce", 1)), Serial(setting(tmp_path)), Quiet())
    assert [outcome.status for _, outcome in outcomes] == ["failed", "done"]
    records = {r["status"]: r for r in Store(tmp_path / "runs").read()[0]}
    assert set(records) == {"done", "failed"}
    assert "DivergedError" in records["failed"]["error"]


def test_what_another_process_is_at_is_left_for_the_end(tmp_path: Path) -> None:
    chosen = cells("ce", 2)
    here = setting(tmp_path)
    store = Store(here.results)
    lock = store.locks.try_acquire(chosen[0].key)
    assert lock is not None
    order: list[tuple[int, str]] = []

    class Freeing(Seen):
        def finished(self, cell: Cell, outcome: Outcome) -> None:
            order.append((cell.seed, outcome.status))
            if cell.seed == 1 and lock is not None:
                lock.__exit__(None, None, None)

    came(Serial(here), chosen, Freeing())
    assert order == [(0, "busy"), (1, "done"), (0, "done")]


def test_two_sweeps_at_once_do_every_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = cells("ce kd", 4)
    done: list[tuple[str, str]] = []

    def counted(plan: object, spec: object, *rest: object) -> object:
        done.append((threading.current_thread().name, spec.key))  # type: ignore[attr-defined]
        return measure(plan, spec, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("benchmark.experiment.runner.measure", counted)
    here = setting(tmp_path)
    results: list[dict[str, Outcome]] = []
    sweeps = [
        threading.Thread(target=lambda: results.append(came(Serial(here), chosen)), name=name) for name in ("a", "b")
    ]
    for sweep in sweeps:
        sweep.start()
    for sweep in sweeps:
        sweep.join()
    assert sorted(key for _, key in done) == sorted(cell.key for cell in chosen)
    assert {name for name, _ in done} == {"a", "b"}
    assert [len([o for o in result.values() if o.status == "done"]) for result in results] == [8, 8]


def listening(pid: int) -> list[str]:
    """Sockets of a process that wait for connections."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(link) if link.is_symlink() else ""
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.append(line)
    for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[3], 16) & 0x10000 and fields[6] in inodes:
            found.append(line)
    return found


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's tables of sockets")
def test_nothing_listens_and_files_honour_the_umask(tmp_path: Path) -> None:
    looked = []

    def look(cell: Cell) -> None:
        for pid in (os.getpid(), *(process.pid for process in multiprocessing.active_children())):
            assert pid is not None
            looked.append(listening(pid))

    before = os.umask(0o027)
    try:
        came(Local(setting(tmp_path), 1), cells("ce", 1), Seen(look))
    finally:
        os.umask(before)
    assert len(looked) == 2
    assert looked == [[], []]
    files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert len(files) == 2
    assert {path.stat().st_mode & 0o777 for path in files} == {0o640}


def test_records_name_no_place_and_no_person(tmp_path: Path) -> None:
    came(Serial(setting(tmp_path)), cells("ce", 1))
    (path,) = (tmp_path / "runs").glob("*.json")
    text = path.read_text()
    secrets = [str(tmp_path), str(Path.home()), os.uname().nodename, os.environ.get("USER", "")]
    assert [secret for secret in secrets if len(secret) > 3 and secret in text] == []
    values = [part.strip('" ,') for line in text.splitlines() for part in line.split(": ")[1:]]
    assert [value for value in values if value.startswith(("/", "~"))] == []


def test_a_jobs_worker_ends_where_nobody_listens_to_it(tmp_path: Path) -> None:
    """A parent that is killed leaves nobody behind: its workers see their pipes closed."""
    executor = Local(setting(tmp_path), 1)
    with executor:
        going = executor.carry_out([Job(cell) for cell in cells("ce", 1, (*SMALL[:1], "teacher.steps=100000"))], Left())
        with pytest.raises(Left.AwayError):
            next(going)
        (worker,) = executor._workers
        assert worker is not None
        worker.pipe.close()
        worker.process.join(20)
        assert worker.process.exitcode == 0
        executor._workers = []


class Left(Quiet):
    """Goes away when the first work begins."""

    class AwayError(Exception):
        pass

    def advanced(self, cell: Cell, title: str, done: int, steps: int, facts: str) -> None:
        raise self.AwayError


def test_threads_and_gpus_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "usable_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [threads_each(workers) for workers in (1, 2, 3, 16)] == [8, 4, 2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert [threads_each(workers) for workers in (1, 4)] == [3, 2]
    places = [surroundings(number, 2, ["0", "GPU-5"]) for number in range(3)]
    assert [place["CUDA_VISIBLE_DEVICES"] for place in places] == ["0", "GPU-5", "0"]
    assert {place["OMP_NUM_THREADS"] for place in places} == {"2"}
    assert "CUDA_VISIBLE_DEVICES" not in surroundings(0, 2, [])
