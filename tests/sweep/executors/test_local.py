"""Executors on this machine: what they run, what happens when a worker dies, what they leave behind."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.experiment.measurement import measure
from benchmark.records.store import Store
from benchmark.sweep.execution import run_jobs
from benchmark.sweep.executors import resources
from benchmark.sweep.executors.base import Executor, Outcome, SweepConfig
from benchmark.sweep.executors.local import Local, Worker
from benchmark.sweep.executors.resources import threads_per_worker, worker_environment
from benchmark.sweep.executors.serial import Serial
from benchmark.sweep.grid import GridBlock
from benchmark.sweep.jobs import Job, plan_jobs
from benchmark.system.progress import Event, Silent

SMALL = ("training.batch_size=8", "teacher.steps=40", "training.steps=10")
ENDLESS = ("training.batch_size=8", "teacher.steps=100000")


def make_jobs(methods: str = "ce kd", seeds: int = 2, settings: tuple[str, ...] = SMALL) -> tuple[Job, ...]:
    block = GridBlock(("distill-same",), tuple(methods.split()), ("tiny",), tuple(range(seeds)), set=settings)
    return plan_jobs([block], Path("nowhere"), Silent()).jobs


def config(folder: Path) -> SweepConfig:
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    return SweepConfig(folder / "runs", folder / "data", "cpu")


class Recorder:
    """An observer that records the pieces of work, messages and outcomes, and calls ``act`` at the first piece."""

    def __init__(self, act: Callable[[Job], object] = lambda job: None) -> None:
        self.pieces: list[str] = []
        self.messages: list[str] = []
        self.outcomes: list[tuple[int, str]] = []
        self._act = act

    def __call__(self, job: Job, event: Event | Outcome) -> None:
        if isinstance(event, Outcome):
            self.outcomes.append((job.seed, event.status))
        elif event.kind == "message":
            self.messages.append(event.text)
        elif event.kind == "started" and event.text:
            self.pieces.append(event.text)
            if len(self.pieces) == 1:
                self._act(job)


def ignore(job: Job, event: Event | Outcome) -> None:
    """Observe nothing."""


def outcomes_of(executor: Executor, jobs: tuple[Job, ...], observe: Recorder | None = None) -> dict[str, Outcome]:
    return {str(job): outcome for job, outcome in run_jobs(jobs, executor, observe or ignore)}


def kill_workers(job: Job) -> None:
    for process in multiprocessing.active_children():
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)


def test_workers_give_the_records_of_one_process_and_train_a_teacher_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "usable_cores", lambda: 2)
    jobs = make_jobs()
    recorder = Recorder()
    parallel = outcomes_of(Local(config(tmp_path / "two"), 2), jobs, recorder)
    serial = outcomes_of(Serial(config(tmp_path / "one")), jobs)
    assert {name: o.status for name, o in parallel.items()} == dict.fromkeys(map(str, jobs), "done")
    assert recorder.pieces.count("teacher conv4-64") == 1
    assert {name: o.value for name, o in parallel.items()} == {name: o.value for name, o in serial.items()}
    first, second = ({r["key"]: r for r in Store(tmp_path / n / "runs").read()[0]} for n in ("two", "one"))
    assert set(first) == set(second) == {job.key for job in jobs}
    for key, record in first.items():
        assert record["history"] == second[key]["history"]
        assert record["environment"]["threads"] == 1
    assert not multiprocessing.active_children()


def test_worker_of_a_plugin_runs_no_job_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ce, kd = make_jobs(seeds=1)
    odd = dataclasses.replace(kd, plug_ins=frozenset({"acme"}))
    given: list[tuple[object, str]] = []
    give = Worker.give
    monkeypatch.setattr(Worker, "give", lambda self, job, wait: (given.append((self, str(job))), give(self, job, wait)))
    later = make_jobs(seeds=2)[1]
    outcomes = outcomes_of(Local(config(tmp_path), 1), (odd, ce, later))
    assert {outcome.status for outcome in outcomes.values()} == {"done"}
    (first, second, third) = [worker for worker, _ in given]
    assert first is not second
    assert second is third
    assert not multiprocessing.active_children()


def listening_sockets(pid: int) -> list[str]:
    """Return the sockets of a process that wait for connections, as lines of Linux's tables."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(link) if link.is_symlink() else ""
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    sockets = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                sockets.append(line)
    for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[3], 16) & 0x10000 and fields[6] in inodes:
            sockets.append(line)
    return sockets


@pytest.mark.slow
def test_a_killed_worker_is_replaced_until_retries_are_used_up(tmp_path: Path) -> None:
    """The job that killed one worker runs in the next; a job that kills every worker fails, and the other one ends."""
    unlucky, deadly = make_jobs("kd rkd", 1)
    sockets = []

    class Killer(Recorder):
        def __call__(self, job: Job, event: Event | Outcome) -> None:
            super().__call__(job, event)
            if isinstance(event, Event) and event.text and (job is deadly or len(self.pieces) == 1):
                if event.kind == "started" and Path("/proc/net/tcp").exists():
                    pids = [os.getpid(), *(process.pid or 0 for process in multiprocessing.active_children())]
                    sockets.extend(listening_sockets(pid) for pid in pids)
                kill_workers(job)

    recorder = Killer()
    before = os.umask(0o027)
    try:
        outcomes = outcomes_of(Local(config(tmp_path), 1, retries=1), (unlucky, deadly), recorder)
    finally:
        os.umask(before)
    again = "its worker was killed by SIGKILL; once more"
    assert recorder.messages == [f"distill-same tiny kd s0: {again}", f"distill-same tiny rkd s0: {again}"]
    assert outcomes[str(unlucky)].status == "done"
    assert outcomes[str(deadly)].status == "failed"
    assert outcomes[str(deadly)].error == "its worker was killed by SIGKILL, 2 times in all; is memory short?"
    assert not any(sockets), "nothing listens on a port"
    files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert len(files) == 4, "a record, its arrays and two locks"
    assert {path.stat().st_mode & 0o777 for path in files} == {0o640}, "files honour the umask"
    locks = Store(tmp_path / "runs").locks
    assert not locks.is_locked(unlucky.key)
    assert not locks.is_locked(deadly.key)


def test_run_jobs_reports_failures_as_outcomes(tmp_path: Path) -> None:
    bad = make_jobs("ce", 1, (*SMALL, "training.lr=1e30"))
    outcomes = run_jobs((*bad, *make_jobs("ce", 1)), Serial(config(tmp_path)), ignore)
    assert [outcome.status for _, outcome in outcomes] == ["failed", "done"]
    records = {r["status"]: r for r in Store(tmp_path / "runs").read()[0]}
    assert set(records) == {"done", "failed"}
    assert "DivergedError" in records["failed"]["error"]


def test_run_jobs_leaves_jobs_of_another_process_for_the_end(tmp_path: Path) -> None:
    jobs = make_jobs("ce", 2)
    lock = Store(config(tmp_path).results).locks.acquire(jobs[0].key)

    class Releasing(Recorder):
        def __call__(self, job: Job, event: Event | Outcome) -> None:
            super().__call__(job, event)
            if job.seed == 1 and isinstance(event, Outcome):
                lock.__exit__(None, None, None)

    recorder = Releasing()
    outcomes_of(Serial(config(tmp_path)), jobs, recorder)
    assert recorder.outcomes == [(0, "busy"), (1, "done"), (0, "done")]


def test_two_sweeps_at_once_run_every_job_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = make_jobs("ce kd", 4)
    done: list[tuple[str, str]] = []

    def counted(plan: object, spec: object, *rest: object) -> object:
        done.append((threading.current_thread().name, spec.key))  # type: ignore[attr-defined]
        return measure(plan, spec, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("benchmark.experiment.runner.measure", counted)
    sweep_config = config(tmp_path)
    results: list[dict[str, Outcome]] = []
    sweeps = [
        threading.Thread(target=lambda: results.append(outcomes_of(Serial(sweep_config), jobs)), name=name)
        for name in ("a", "b")
    ]
    for sweep in sweeps:
        sweep.start()
    for sweep in sweeps:
        sweep.join()
    assert sorted(key for _, key in done) == sorted(job.key for job in jobs)
    assert {name for name, _ in done} == {"a", "b"}
    assert [len([o for o in result.values() if o.status == "done"]) for result in results] == [8, 8]


def test_records_name_no_folder_host_or_user(tmp_path: Path) -> None:
    outcomes_of(Serial(config(tmp_path)), make_jobs("ce", 1))
    (path,) = (tmp_path / "runs").glob("*.json")
    text = path.read_text()
    secrets = [str(tmp_path), str(Path.home()), os.uname().nodename, os.environ.get("USER", "")]
    assert [secret for secret in secrets if len(secret) > 3 and secret in text] == []
    values = [part.strip('" ,') for line in text.splitlines() for part in line.split(": ")[1:]]
    assert [value for value in values if value.startswith(("/", "~"))] == []


class ParentGoneError(Exception):
    """Stands for the death of the parent."""


@pytest.mark.slow
def test_a_worker_ends_when_its_parent_is_gone(tmp_path: Path) -> None:
    """A killed parent leaves no worker behind: they see their pipes closed."""

    def leave(job: Job) -> None:
        raise ParentGoneError

    executor = Local(config(tmp_path), 1)
    with executor:
        running = executor.run(make_jobs("ce", 1, ENDLESS), Recorder(leave))
        with pytest.raises(ParentGoneError):
            next(running)
        (worker,) = executor._workers
        assert worker is not None
        worker.pipe.close()
        worker.process.join(60)
        assert worker.process.exitcode == 0
        executor._workers = []


def test_workers_share_threads_and_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "usable_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [threads_per_worker(workers) for workers in (1, 2, 3, 16)] == [8, 4, 2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert [threads_per_worker(workers) for workers in (1, 4)] == [3, 2]
    environments = [worker_environment(number, 2, ["0", "GPU-5"]) for number in range(3)]
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in environments] == ["0", "GPU-5", "0"]
    assert {environment["OMP_NUM_THREADS"] for environment in environments} == {"2"}
    assert "CUDA_VISIBLE_DEVICES" not in worker_environment(0, 2, [])
