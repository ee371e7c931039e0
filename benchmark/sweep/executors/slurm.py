"""A SLURM cluster: a job a run, in arrays, through submitit."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmark.errors import InputError
from benchmark.sweep.executors.base import Job, Outcome, Setting, Watch, run_job
from benchmark.sweep.grid import Resources
from benchmark.system import interrupts
from benchmark.system.files import write_atomically
from benchmark.system.optional_packages import load_extra
from benchmark.system.progress import Silent

_DEFAULT = Resources(time=60, cpus=1)
_SIGNAL_SECONDS = 30
"""How long before the end of its time a job is told, to save what it has and be queued again."""

_MOST_TIMEOUTS = 100
_POLL_SECONDS = 1.0
_MOST_BETWEEN_LOOKS = 60.0


class Slurm:
    """An ``Executor`` that submits runs as arrays of jobs, one for each kind of resources, ``lanes`` at a time each.

    A job that is pre-empted or out of time is queued again and its run goes on. One that was killed is submitted again,
    ``retries`` times. A job's result is its record; what submitit pickles is not read and is removed, with the logs,
    when the run is done. Leaving it early cancels the jobs.
    """

    def __init__(self, setting: Setting, lanes: int, *, retries: int = 2, resources: Resources) -> None:
        self._submitit = load_extra("submitit", "slurm", "--executor slurm")
        self._setting = setting
        self._lanes = lanes
        self._retries = retries
        self._resources = resources.over(_DEFAULT)
        self._folder = setting.results / ".slurm"
        self._submitted: dict[str, _Submitted] = {}

    def carry_out(self, jobs: Sequence[Job], watch: Watch) -> Iterator[Outcome]:
        """One outcome for every job, as they come."""
        killed: Counter[str] = Counter()
        self._submit(jobs)
        pause = since = 0.0
        while self._submitted:
            time.sleep(_POLL_SECONDS)
            since += _POLL_SECONDS
            looked = since >= pause
            if looked:
                next(iter(self._submitted.values())).handle.watcher.update()
                since, pause = 0.0, min(_MOST_BETWEEN_LOOKS, pause + _POLL_SECONDS)
            again = []
            for key, submitted in list(self._submitted.items()):
                cell = submitted.job.cell
                outcome = submitted.outcome()
                state = submitted.handle.watcher.get_state(submitted.handle.job_id, mode="cache")
                if outcome is None and looked:
                    if not submitted.seen and state == "RUNNING":
                        submitted.seen = True
                        watch.started(cell)
                    submitted.gone += submitted.handle.watcher.is_done(submitted.handle.job_id, mode="cache")
                if outcome is None and submitted.gone < 2:  # what a job wrote may be seen after its end
                    continue
                del self._submitted[key]
                pause = 0.0
                if not submitted.seen:
                    watch.started(cell)
                if outcome is None:
                    killed[key] += 1
                    if killed[key] <= self._retries and not state.startswith("CANCELLED"):
                        watch.said(f"{cell}: job {submitted.handle.job_id} ended as {state}; submitted again")
                        again.append(submitted.job)
                        continue
                    log = os.path.relpath(submitted.handle.paths.stderr, self._setting.results)
                    outcome = Outcome(
                        key, "failed", error=f"job {submitted.handle.job_id} ended as {state}; log {log} in the results"
                    )
                elif outcome.status != "failed":
                    submitted.clear()
                yield outcome
            self._submit(again)

    def _submit(self, jobs: Sequence[Job]) -> None:
        classes: dict[Resources, list[Job]] = defaultdict(list)
        for job in jobs:
            classes[job.cell.resources.over(self._resources)].append(job)
        for resources, members in classes.items():
            try:
                executor = self._submitit.AutoExecutor(
                    self._folder, cluster="slurm", slurm_max_num_timeout=_MOST_TIMEOUTS
                )
                executor.update_parameters(
                    name="benchmark", slurm_array_parallelism=self._lanes, slurm_signal_delay_s=_SIGNAL_SECONDS,
                    slurm_setup=[f"export OMP_NUM_THREADS={resources.cpus}"], **_parameters(resources),
                )  # fmt: skip
                runs = [Run(job, self._setting, resources.cpus or 1, self._folder) for job in members]
                for run in runs:
                    run.told.unlink(missing_ok=True)
                with executor.batch():
                    handles = [executor.submit(run) for run in runs]
            except (OSError, RuntimeError, self._submitit.core.utils.FailedSubmissionError) as error:
                raise InputError(f"SLURM does not take the jobs ({' '.join(str(error).split())})") from None
            for run, handle in zip(runs, handles, strict=True):
                self._submitted[run.job.cell.key] = _Submitted(run.job, handle, run.told)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel what is queued or runs. What a run has saved of itself is kept, for the next time."""
        for submitted in self._submitted.values():
            submitted.handle.cancel(check=False)
        self._submitted = {}
        for pattern in ("*_submission.sh", ".submission_file_*"):
            for script in self._folder.glob(pattern):
                script.unlink(missing_ok=True)


@dataclass(frozen=True)
class Run:
    """What a SLURM job does: a run, and a file that tells what came of it."""

    job: Job
    setting: Setting
    threads: int
    folder: Path

    @property
    def told(self) -> Path:
        """The file with the outcome."""
        return self.folder / f"{self.job.cell.key[:16]}.json"

    def __call__(self) -> None:
        """Carry it out. The signal that ends the job early ends the run in order first; then submitit handles it."""
        import torch

        number = signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]
        requeue = signal.signal(number, interrupts.handle_stop_signal)
        torch.set_num_threads(self.threads)
        try:
            outcome = run_job(self.job, self.setting, Silent())
        except KeyboardInterrupt:
            if interrupts.stop_requested() and callable(requeue):
                requeue(number, None)
            raise
        signal.signal(number, requeue)
        write_atomically(self.told, json.dumps(dataclasses.asdict(outcome)).encode())

    def checkpoint(self) -> Any:
        """What is queued in its place where it is to end early: the same, which goes on from what the run saved."""
        return load_extra("submitit", "slurm", "--executor slurm").helpers.DelayedSubmission(self)


@dataclass
class _Submitted:
    """A job in the queue; gone: how many looks at the queue have found it ended."""

    job: Job
    handle: Any
    told: Path
    seen: bool = False
    gone: int = 0

    def outcome(self) -> Outcome | None:
        """What the job has told, if it has and writes nothing more."""
        if not (self.told.exists() and (self.gone or self.handle.paths.result_pickle.exists())):
            return None
        return Outcome(**json.loads(self.told.read_bytes()))

    def clear(self) -> None:
        """Remove its files."""
        paths = self.handle.paths
        for path in (self.told, paths.submitted_pickle, paths.result_pickle, paths.stdout, paths.stderr):
            path.unlink(missing_ok=True)


def _parameters(resources: Resources) -> dict[str, Any]:
    """Resources as submitit names them."""
    named = {
        "timeout_min": resources.time,
        "cpus_per_task": resources.cpus,
        "gpus_per_node": resources.gpus,
        "mem_gb": resources.memory,
        "slurm_partition": resources.partition,
        "slurm_account": resources.account,
    }
    return {name: value for name, value in named.items() if value is not None}
