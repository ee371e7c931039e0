"""Worker processes on this machine. Each runs one job after the other and reports over a pipe."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_data
from types import TracebackType
from typing import Self

from benchmark.sweep.executors.base import Observer, Outcome, SweepConfig, run_job
from benchmark.sweep.executors.resources import threads_per_worker, visible_gpus, worker_environment
from benchmark.sweep.jobs import Job
from benchmark.system import interrupts
from benchmark.system.progress import Event

SHUTDOWN_SECONDS = 10.0
"""How long a worker may take to save its work after it was asked to end. Then it is killed."""

_SIGNALS = signal.SIGINT, signal.SIGTERM


class Local:
    """An ``Executor`` with several workers, which share this process's cores and the machine's GPUs.

    A worker starts with its first job and is kept for the next one that uses the same plug-ins, or none. If a worker
    is killed, a new one gets its job. Nothing listens on a port.
    """

    def __init__(self, config: SweepConfig, workers: int, *, retries: int = 2) -> None:
        """
        Args:
            config: of the sweep.
            workers: number of workers.
            retries: how often a job whose worker was killed is given to a new worker.
        """
        self._config = config
        self._retries = retries
        self._threads = threads_per_worker(workers)
        gpus = visible_gpus() if config.device in ("auto", "cuda") else []
        self._environments = [worker_environment(number, self._threads, gpus) for number in range(workers)]
        self._workers: list[Worker | None] = [None] * workers

    def run(self, jobs: Sequence[Job], observe: Observer, *, wait: bool = False) -> Iterator[Outcome]:
        """Run jobs; yield outcomes in the order in which they arrive."""
        queue = deque(jobs)
        killed: Counter[str] = Counter()
        while True:
            self._hand_out(queue, observe, wait)
            busy = {worker.pipe: worker for worker in self._workers if worker is not None and worker.job is not None}
            if not busy:
                return
            for pipe in wait_for_data(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                job = worker.job
                assert job is not None
                try:
                    report = worker.read()
                except (EOFError, ConnectionError):
                    self._workers[self._workers.index(worker)] = None
                    how = worker.end()
                    killed[job.key] += 1
                    if killed[job.key] <= self._retries:
                        observe(job, Event("message", f"{job}: its worker {how}; once more"))
                        queue.append(job)
                        continue
                    times = f", {killed[job.key]} times in all" if killed[job.key] > 1 else ""
                    report = Outcome(job.key, "failed", error=f"its worker {how}{times}; is memory short?")
                if isinstance(report, Outcome):
                    yield report
                else:
                    observe(job, report)

    def _hand_out(self, queue: deque[Job], observe: Observer, wait: bool) -> None:
        """Give a job to every worker without one, and start workers for that, until the queue is empty."""
        for number, worker in enumerate(self._workers):
            if queue and (worker is None or worker.job is None):
                job = queue[0]
                if worker is not None:
                    job = next((job for job in queue if job.plug_ins == worker.plug_ins), job)
                queue.remove(job)
                if worker is not None and worker.plug_ins != job.plug_ins:
                    worker.ask_to_end()
                    worker.end()
                    worker = None
                if worker is None:
                    worker = Worker(self._config, self._threads, self._environments[number], job.plug_ins)
                    self._workers[number] = worker
                observe(job, Event("started"))
                worker.give(job, wait)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every worker. One with a job may save its work first; it is killed after ``SHUTDOWN_SECONDS``."""
        workers = [worker for worker in self._workers if worker is not None]
        self._workers = [None] * len(self._workers)
        try:
            for worker in workers:
                worker.ask_to_end()
            for worker in workers:
                worker.process.join(SHUTDOWN_SECONDS)
        finally:
            for worker in workers:
                worker.end()


class Worker:
    """A process that runs the jobs it is given, one at a time."""

    def __init__(
        self, config: SweepConfig, threads: int, environment: Mapping[str, str], plug_ins: frozenset[str]
    ) -> None:
        """
        Args:
            config: of the sweep.
            threads: number of threads for PyTorch.
            environment: variables that the process starts with, beside those of this process.
            plug_ins: packages whose plug-ins its jobs use. No job without them comes after, whatever they changed.
        """
        self.plug_ins = plug_ins
        self.job: Job | None = None
        """The job that the process is running."""
        context = multiprocessing.get_context("spawn")
        self.pipe, worker_end = context.Pipe()
        self.process = context.Process(target=_work, args=(worker_end, config, threads), daemon=True)
        with _environment_set(environment), _signals_blocked():
            self.process.start()
        worker_end.close()

    def give(self, job: Job, wait: bool) -> None:
        """Send a job to the process."""
        self.job = job
        with contextlib.suppress(ConnectionError):  # a dead process is noticed when it is read from
            self.pipe.send((job, wait))

    def read(self) -> Event | Outcome:
        """Receive an event or the outcome of the job.

        Raises:
            EOFError: the process is dead.
        """
        report: Event | Outcome = self.pipe.recv()
        if isinstance(report, Outcome):
            self.job = None
        return report

    def ask_to_end(self) -> None:
        """Ask the process to end. If it is running a job, it saves its work first."""
        if self.job is None:
            with contextlib.suppress(ConnectionError):
                self.pipe.send(None)
        else:
            self.process.terminate()

    def end(self) -> str:
        """Kill the process unless it ends within half a second, and return how it ended."""
        if self.job is None or self.process.is_alive():
            self.process.join(0.5)
        self.process.kill()
        self.process.join()
        code = self.process.exitcode
        self.process.close()
        self.pipe.close()
        return f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with status {code}"


def _work(pipe: Connection, config: SweepConfig, threads: int) -> None:
    """Run jobs from the pipe until it sends None. This is the main function of a worker process.

    Ctrl-C reaches this process too, but its parent handles it and ends the workers by SIGTERM.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, interrupts.handle_stop_signal)
    interrupts.stop_silently()

    def emit(event: Event) -> None:
        try:
            pipe.send(event)
        except OSError:  # the parent is gone
            raise KeyboardInterrupt from None

    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        import torch

        torch.set_num_threads(threads)
        while (task := pipe.recv()) is not None:
            job, wait = task
            pipe.send(run_job(job, config, emit, wait=wait))
    except (KeyboardInterrupt, EOFError, ConnectionError):
        pass  # asked to end, or the parent is gone


@contextlib.contextmanager
def _environment_set(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables within the block. A process started there inherits them before it loads a library."""
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
def _signals_blocked() -> Iterator[None]:
    """Block stop signals within the block. A process started there cannot be killed by one before it handles it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
