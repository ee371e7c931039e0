from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmark.display.sweep_table import SweepTable, time_estimate
from benchmark.sweep.execution import Overhead
from benchmark.sweep.executors.base import Outcome
from benchmark.sweep.grid import GridBlock
from benchmark.sweep.jobs import Job, plan_jobs
from benchmark.system.progress import Event, Silent


@pytest.fixture(scope="module")
def jobs() -> tuple[Job, ...]:
    return plan_jobs([GridBlock(("distill-same",), ("ce",), ("tiny",), (0, 1, 2))], Path("nowhere"), Silent()).jobs


def test_time_estimate_names_what_is_unknown(jobs: tuple[Job, ...]) -> None:
    first, second, _ = (job.key for job in jobs)
    assert time_estimate([], {}, 2) == "nothing to do"
    unknown = time_estimate(jobs, {}, 2)
    assert unknown == "3 runs left, 2 at a time: time unknown (there is no similar earlier record)"
    partly = time_estimate(jobs, {first: 60.0, second: 40.0}, 2)
    assert partly.startswith("3 runs left, 2 at a time: about 50 s (by earlier records; 1 of them have no similar")
    assert time_estimate(jobs[:1], {first: 60.0}, 8) == "1 run left, 1 at a time: about 60 s (by earlier records)"


def test_time_estimate_counts_the_starts_of_processes_and_the_teachers(jobs: tuple[Job, ...]) -> None:
    seconds = {job.key: 60.0 for job in jobs}
    line = time_estimate(jobs, seconds, 2, Overhead(2, 1, 100.0))
    assert line == (
        "3 runs left, 2 at a time: about 2 min (by earlier records); beside them 2 starts of a process and 1 teacher "
        "to train unless kept from before"
    )
    assert time_estimate(jobs, {}, 1, Overhead(0, 0, 0.0)).endswith("similar earlier record)")


@pytest.mark.parametrize("columns", ["80", "120"])
def test_sweep_table_shows_running_jobs_on_a_terminal(
    columns: str, jobs: tuple[Job, ...], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm")
    with SweepTable(jobs, {job.key: 30.0 for job in jobs}, 2) as observe:
        for job in jobs[:2]:
            observe(job, Event("started"))
        observe(jobs[0], Event("started", "teacher conv4-64", steps=60))
        observe(jobs[0], Event("advanced", "train ce 1.25 [odd] " + "words " * 30, done=30))
        observe(jobs[1], Outcome(jobs[1].key, "failed", error="ValueError: [no] markup"))
        time.sleep(0.6)
    shown = capfd.readouterr().err
    assert "[1/3] distill-same tiny ce s1: failed: ValueError: [no] markup" in shown
    for words in (
        "1 of 3 finished, 1 failed",
        "about 30 s left",
        "distill-same tiny ce s0",
        "50 %",
        "teacher conv4-64",
    ):
        assert words in shown


def test_sweep_table_prints_lines_without_a_terminal(jobs: tuple[Job, ...], capfd: pytest.CaptureFixture[str]) -> None:
    with SweepTable(jobs, {}, 1) as observe:
        for job in jobs[:2]:
            observe(job, Event("started"))
            observe(job, Event("started", "ce", steps=2))
            observe(job, Event("advanced", "loss", done=1))
        observe(jobs[0], Event("message", "its worker was killed; once more"))
        observe(jobs[0], Outcome(jobs[0].key, "done", value=0.5))
        observe(jobs[1], Outcome(jobs[1].key, "busy"))
    assert capfd.readouterr().err.splitlines() == [
        "its worker was killed; once more",
        "[1/3] distill-same tiny ce s0: 50.00 % in 0 s",
        "distill-same tiny ce s1: another process is running it; left for the end",
    ]
