"""A SLURM cluster: one cluster job per run, submitted in arrays through submitit."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmark.errors import InputError
from benchmark.sweep.executors.base import Observer, Outcome, SweepConfig, run_job
from benchmark.sweep.grid import Resources
from benchmark.sweep.jobs import Job
from benchmark.system import interrupts
from benchmark.system.files import write_atomically
from benchmark.system.optional_packages import load_extra
from benchmark.system.progress import Event

_DEFAULT = Resources(time=60, cpus=1)
_SIGNAL_SECONDS = 30
"""How long before its time limit a cluster job is signalled, to save its work and be queued again."""

_MAX_TIMEOUTS = 100
_POLL_SECONDS = 1.0
_MAX_QUEUE_SECONDS = 60.0
"""The longest pause between two looks at the queue."""


class Slurm:
    """An ``Executor`` that submits one array of cluster jobs for each kind of resources.

    A cluster job that is pre-empted or out of time is queued again and its run resumes. A killed one is submitted
    again. The result of a job is its record. Files of submitit and logs are removed when the run is done; the pickled
    result is never read. Leaving the executor early cancels its cluster jobs.
    """

    def __init__(self, config: SweepConfig, n_jobs: int, *, retries: int = 2, resources: Resources) -> None:
        """
        Args:
            config: of the sweep.
            n_jobs: number of cluster jobs of one array that may run at a time.
            retries: how often a killed cluster job is submitted again.
            resources: of each cluster job, unless its grid block says otherwise.
        """
        self._submitit = load_extra("submitit", "slurm", "--executor slurm")
        self._config = config
        self._n_jobs = n_jobs
        self._retries = retries
        self._resources = resources.with_defaults(_DEFAULT)
        self._folder = config.results / ".slurm"
        self._submitted: dict[str, _Submitted] = {}

    def run(self, jobs: Sequence[Job], observe: Observer, *, wait: bool = False) -> Iterator[Outcome]:
        """Run jobs; yield outcomes in the order in which they end."""
        killed: Counter[str] = Counter()
        self._submit(jobs, wait)
        pause = since_look = 0.0
        while self._submitted:
            time.sleep(_POLL_SECONDS)
            since_look += _POLL_SECONDS
            looked = since_look >= pause
            if looked:
                next(iter(self._submitted.values())).handle.watcher.update()
                since_look, pause = 0.0, min(_MAX_QUEUE_SECONDS, pause + _POLL_SECONDS)
            resubmitted = []
            for key, submitted in list(self._submitted.items()):
                job = submitted.job
                outcome = submitted.outcome()
                state = submitted.handle.watcher.get_state(submitted.handle.job_id, mode="cache")
                if outcome is None and looked:
                    if not submitted.started and state == "RUNNING":
                        submitted.started = True
                        observe(job, Event("started"))
                    submitted.times_missing += submitted.handle.watcher.is_done(submitted.handle.job_id, mode="cache")
                if outcome is None and submitted.times_missing < 2:  # its files may appear after its end
                    continue
                del self._submitted[key]
                pause = 0.0
                if not submitted.started:
                    observe(job, Event("started"))
                if outcome is None:
                    killed[key] += 1
                    if killed[key] <= self._retries and not state.startswith("CANCELLED"):
                        line = f"{job}: job {submitted.handle.job_id} ended as {state}; submitted again"
                        observe(job, Event("message", line))
                        resubmitted.append(job)
                        continue
                    log = os.path.relpath(submitted.handle.paths.stderr, self._config.results)
                    outcome = Outcome(
                        key, "failed", error=f"job {submitted.handle.job_id} ended as {state}; log {log} in the results"
                    )
                elif outcome.status != "failed":
                    submitted.clear()
                yield outcome
            self._submit(resubmitted, wait)

    def _submit(self, jobs: Sequence[Job], wait: bool) -> None:
        for resources, members in _by_resources(jobs, self._resources).items():
            try:
                executor = self._submitit.AutoExecutor(
                    self._folder, cluster="slurm", slurm_max_num_timeout=_MAX_TIMEOUTS
                )
                executor.update_parameters(**_parameters(resources, self._n_jobs))
                tasks = [ClusterTask(job, wait, self._config, resources.cpus or 1, self._folder) for job in members]
                for task in tasks:
                    task.result_path.unlink(missing_ok=True)
                with executor.batch():
                    handles = [executor.submit(task) for task in tasks]
            except (OSError, RuntimeError, self._submitit.core.utils.FailedSubmissionError) as error:
                raise InputError(f"SLURM does not take the jobs ({' '.join(str(error).split())})") from None
            for task, handle in zip(tasks, handles, strict=True):
                self._submitted[task.job.key] = _Submitted(task.job, handle, task.result_path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel the cluster jobs that are queued or running. Checkpoints of their runs are kept."""
        for submitted in self._submitted.values():
            submitted.handle.cancel(check=False)
        self._submitted = {}
        for pattern in ("*_submission.sh", ".submission_file_*"):
            for script in self._folder.glob(pattern):
                script.unlink(missing_ok=True)


@dataclass(frozen=True)
class ClusterTask:
    """What a cluster job executes: one run, whose outcome it writes to a file."""

    job: Job
    wait: bool
    config: SweepConfig
    threads: int
    folder: Path

    @property
    def result_path(self) -> Path:
        """The file with the outcome."""
        return self.folder / f"{self.job.key[:16]}.json"

    def __call__(self) -> None:
        """Run the job. The signal before the time limit stops the run in order; then submitit queues it again."""
        import torch

        number = signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]
        requeue = signal.signal(number, interrupts.handle_stop_signal)
        torch.set_num_threads(self.threads)
        try:
            outcome = run_job(self.job, self.config, lambda event: None, wait=self.wait)
        except KeyboardInterrupt:
            if interrupts.stop_requested() and callable(requeue):
                requeue(number, None)
            raise
        signal.signal(number, requeue)
        write_atomically(self.result_path, json.dumps(dataclasses.asdict(outcome)).encode())

    def checkpoint(self) -> Any:
        """Return what submitit queues after an early end: the same task, which resumes from the run's checkpoint."""
        return load_extra("submitit", "slurm", "--executor slurm").helpers.DelayedSubmission(self)


@dataclass
class _Submitted:
    """A cluster job in the queue."""

    job: Job
    handle: Any
    """submitit's job."""
    result_path: Path
    started: bool = False
    times_missing: int = 0
    """How many looks at the queue showed that it has ended."""

    def outcome(self) -> Outcome | None:
        """Return the outcome that the cluster job wrote, once it writes nothing more; else None."""
        if not (self.result_path.exists() and (self.times_missing or self.handle.paths.result_pickle.exists())):
            return None
        return Outcome(**json.loads(self.result_path.read_bytes()))

    def clear(self) -> None:
        """Remove its files."""
        paths = self.handle.paths
        for path in (self.result_path, paths.submitted_pickle, paths.result_pickle, paths.stdout, paths.stderr):
            path.unlink(missing_ok=True)


def scripts(jobs: Sequence[Job], config: SweepConfig, n_jobs: int, resources: Resources) -> list[str]:
    """Return the scripts that the executor would hand to ``sbatch``, one for each kind of resources.

    Nothing is written, and no cluster is needed. The number in the names of files is that of the cluster job.

    Args:
        jobs: the jobs to submit.
        config: of the sweep.
        n_jobs: number of cluster jobs of one array that may run at a time.
        resources: of each cluster job, unless its grid block says otherwise.
    """
    submitit = load_extra("submitit", "slurm", "--executor slurm")
    folder = config.results / ".slurm"
    texts = []
    for kind, members in _by_resources(jobs, resources.with_defaults(_DEFAULT)).items():
        names = {"name": "job_name", "timeout_min": "time", "mem_gb": "mem"}
        parameters = {
            names.get(name, name.removeprefix("slurm_")): f"{value}GB" if name == "mem_gb" else value
            for name, value in _parameters(kind, n_jobs).items()
        }
        command = shlex.join([sys.executable, "-u", "-m", "submitit.core._submit", str(folder)])
        make = submitit.slurm.slurm._make_sbatch_string
        texts.append(make(command, folder, map_count=len(members), **parameters))
    return texts


def _by_resources(jobs: Sequence[Job], defaults: Resources) -> dict[Resources, list[Job]]:
    by_resources: dict[Resources, list[Job]] = defaultdict(list)
    for job in jobs:
        by_resources[job.resources.with_defaults(defaults)].append(job)
    return by_resources


def _parameters(resources: Resources, n_jobs: int) -> dict[str, Any]:
    """Return the parameters of an array of cluster jobs under submitit's names."""
    parameters = {
        "name": "benchmark",
        "slurm_array_parallelism": n_jobs,
        "slurm_signal_delay_s": _SIGNAL_SECONDS,
        "slurm_setup": [f"export OMP_NUM_THREADS={resources.cpus}"],
        "timeout_min": resources.time,
        "cpus_per_task": resources.cpus,
        "gpus_per_node": resources.gpus,
        "mem_gb": resources.memory,
        "slurm_partition": resources.partition,
        "slurm_account": resources.account,
    }
    return {name: value for name, value in parameters.items() if value is not None}
