"""Workers on this machine: processes that take one run after the other and talk over pipes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Self

from benchmark.sweep.executors.base import Job, Outcome, Setting, Watch, run_job
from benchmark.sweep.executors.serial import Relayed
from benchmark.system import interrupts

_PATIENCE = 10.0
"""Seconds that a worker has to end its run in order, once it is asked to."""

_SIGNALS = signal.SIGINT, signal.SIGTERM


class Local:
    """An ``Executor`` of several workers, which share this process's threads and the machine's GPUs.

    A worker is started when there is a run for it and kept for the next. A run whose worker is killed is given to a new
    one, ``retries`` times. Nothing listens on a port.
    """

    def __init__(self, setting: Setting, workers: int, *, retries: int = 2) -> None:
        self._setting = setting
        self._retries = retries
        threads = threads_each(workers)
        gpus = visible_gpus() if setting.device in ("auto", "cuda") else []
        self._places = [surroundings(number, threads, gpus) for number in range(workers)]
        self._threads = threads
        self._workers: list[Worker | None] = [None] * workers

    def carry_out(self, jobs: Sequence[Job], watch: Watch) -> Iterator[Outcome]:
        """One outcome for every job, as they come."""
        queue = deque(jobs)
        killed: Counter[str] = Counter()
        while True:
            for number, worker in enumerate(self._workers):
                if queue and (worker is None or worker.job is None):
                    worker = self._workers[number] = worker or Worker(
                        self._setting, self._threads, self._places[number]
                    )
                    worker.give(queue.popleft(), watch)
            busy = [worker for worker in self._workers if worker is not None and worker.job is not None]
            if not busy:
                return
            told = set(wait([worker.pipe for worker in busy]))
            for worker in (worker for worker in busy if worker.pipe in told):
                job = worker.job
                assert job is not None
                try:
                    outcome = worker.read()
                except (EOFError, ConnectionError):
                    self._workers[self._workers.index(worker)] = None
                    how = worker.end()
                    killed[job.cell.key] += 1
                    if killed[job.cell.key] <= self._retries:
                        watch.said(f"{job.cell}: its worker {how}; once more")
                        queue.append(job)
                        continue
                    times = f", {killed[job.cell.key]} times in all" if killed[job.cell.key] > 1 else ""
                    outcome = Outcome(job.cell.key, "failed", error=f"its worker {how}{times}; is memory short?")
                if outcome is not None:
                    yield outcome

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Have every worker end: at once where it has nothing to do, else in order within some seconds, else killed."""
        workers = [worker for worker in self._workers if worker is not None]
        self._workers = [None] * len(self._workers)
        try:
            for worker in workers:
                worker.ask_to_end()
            for worker in workers:
                worker.process.join(_PATIENCE)
        finally:
            for worker in workers:
                worker.end()


class Worker:
    """A process that carries out the jobs it is given, and the one it is at."""

    def __init__(self, setting: Setting, threads: int, place: Mapping[str, str]) -> None:
        self.job: Job | None = None
        self._relay: Relayed | None = None
        self._watch: Watch | None = None
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_work, args=(other, setting, threads), daemon=True)
        with _environment(place), _held_back():
            self.process.start()
        other.close()

    def give(self, job: Job, watch: Watch) -> None:
        """Have it carry out a job."""
        self.job = job
        self._watch = watch
        self._relay = Relayed(job.cell, watch)
        watch.started(job.cell)
        with contextlib.suppress(ConnectionError):  # a dead one is noticed when it is read from
            self.pipe.send(job)

    def read(self) -> Outcome | None:
        """What it tells: progress, which is passed on, or what came of its job. ``EOFError`` where it is dead."""
        told = self.pipe.recv()
        if isinstance(told, Outcome):
            self.job = None
            return told
        assert self._relay is not None
        name, *arguments = told
        getattr(self._relay, name)(*arguments)
        return None

    def ask_to_end(self) -> None:
        """Ask it to end, in order where it is in the middle of a job."""
        if self.job is None:
            with contextlib.suppress(ConnectionError):
                self.pipe.send(None)
        else:
            self.process.terminate()

    def end(self) -> str:
        """Have it gone, killed where it has not ended; how it ended."""
        if self.job is None or self.process.is_alive():
            self.process.join(0.5)
        self.process.kill()
        self.process.join()
        code = self.process.exitcode
        self.process.close()
        self.pipe.close()
        return f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with status {code}"


class _Piped:
    """A ``Progress`` that sends what it is told through a pipe. Where nobody reads it any more, the run ends."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def say(self, message: str) -> None:
        """Pass it on."""
        self._send("say", message)

    def begin(self, title: str, steps: int) -> None:
        """Pass it on."""
        self._send("begin", title, steps)

    def advance(self, done: int, facts: str) -> None:
        """Pass it on."""
        self._send("advance", done, facts)

    def end(self) -> None:
        """Pass it on."""
        self._send("end")

    def _send(self, *message: object) -> None:
        try:
            self._pipe.send(message)
        except OSError:
            raise KeyboardInterrupt from None


def _work(pipe: Connection, setting: Setting, threads: int) -> None:
    """A worker's life. The interrupt key is its parent's affair, which ends it by SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, interrupts.handle_stop_signal)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        import torch

        torch.set_num_threads(threads)
        while (job := pipe.recv()) is not None:
            pipe.send(run_job(job, setting, _Piped(pipe)))
    except (KeyboardInterrupt, EOFError, ConnectionError):
        pass  # asked to end, or the parent is gone


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_each(workers: int) -> int:
    """How many threads a worker has: its share of the cores, and no more than ``OMP_NUM_THREADS`` where that is set."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    share = max(1, usable_cores() // workers)
    return min(share, int(given)) if given.isdecimal() and int(given) else share


def visible_gpus() -> list[str]:
    """What names the CUDA devices that this process sees."""
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    named = [name for name in given.split(",") if name] if given is not None else None
    count = torch.cuda.device_count()
    return named[:count] if named is not None else [str(number) for number in range(count)]


def surroundings(number: int, threads: int, gpus: Sequence[str]) -> dict[str, str]:
    """The environment of a worker: so many threads for every library that has its own, and one GPU where there are."""
    names = "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"
    gpu = {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}
    return dict.fromkeys(names, str(threads)) | gpu


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Within, what is started finds these in its environment: libraries read them as they are loaded."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Within, signals wait; what is started begins so, and is not killed by one before it can handle it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
