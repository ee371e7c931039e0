from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import Call

SWEEP = ["sweep", "--protocols", "distill-same,distill-cross", "--methods", "kd,ce", "--datasets", "tiny"]
SMOKE = ["--limit-steps", "3", "--set", "training.batch_size=8"]
HERE = ["--executor", "serial", "--device", "cpu"]


def rows(text: str) -> dict[str, list[str]]:
    """Return the numbers of every row of a table by the row's first word."""
    lines = (line.split() for line in text.splitlines())
    return {words[0]: [w for w in words[1:] if w.isdecimal()] for words in lines if len(words) > 4}


def test_sweep_reports_status_runs_what_is_missing_and_resumes(call: Call, tmp_path: Path) -> None:
    dry = call(*SWEEP, *SMOKE, *HERE, "--seeds", "0,1", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert rows(dry.stdout)["distill-same"] == ["0", "0", "0", "4", "0"]
    assert rows(dry.stdout)["distill-cross"] == ["0", "0", "0", "2", "2"]
    assert "n/a: kd on distill-cross: it compares outputs class by class" in dry.stdout
    assert "6 runs left, 1 at a time: time unknown" in dry.stdout
    assert not (tmp_path / "results").exists()

    first = call(*SWEEP, *SMOKE, *HERE)
    assert first.returncode == 0, first.stderr
    assert re.search(r"^\[3/3\] distill-cross tiny ce s0: \d+\.\d\d % in ", first.stderr, re.MULTILINE)
    assert first.stdout.splitlines()[-1] == "3 of 3 done, 0 failed; records in results/runs"

    more = call(*SWEEP, *SMOKE, *HERE, "--seeds", "0-1", "--dry-run")
    assert rows(more.stdout)["all"] == ["3", "0", "0", "3", "2"]
    assert re.search(r"3 runs left, 1 at a time: about \d+ s \(by earlier records\)", more.stdout)

    again = call(*SWEEP, *SMOKE, *HERE)
    assert (again.returncode, again.stdout.splitlines()[-1]) == (0, "nothing to do")
    assert len(list((tmp_path / "results/runs").glob("*.json"))) == 3
    bare = call("status")
    assert rows(bare.stdout)["all"] == ["3", "0", "0", "0", "1"]
    named = json.loads(call("status", *SWEEP[1:], *SMOKE, "--seeds", "0-1", "--json").stdout)
    assert [named[name] for name in ("runs", "done", "missing")] == [6, 3, 3]
    assert named["not_applicable"][0]["method"] == "kd"


def test_sweep_lists_failures_and_finishes_the_rest(call: Call, tmp_path: Path) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        "- {protocols: distill-same, methods: ce, datasets: tiny, limit_steps: 3, set: [training.lr=1e30]}\n"
        "- {protocols: distill-same, methods: ce, datasets: tiny, limit_steps: 3}\n"
    )
    done = call("sweep", "--grid", "grid.yaml", *HERE)
    assert done.returncode == 1
    assert "1 of 2 done, 1 failed" in done.stdout
    assert done.stderr.splitlines()[-1].startswith("error: distill-same tiny ce s0 failed: DivergedError: ")
    status = call("status")
    assert status.returncode == 0
    assert "failed: distill-same tiny ce s0: DivergedError" in status.stdout
    cached = call("sweep", "--grid", "grid.yaml", *HERE, "--mode", "only-cache")
    assert cached.returncode == 1
    assert "has no finished record" in cached.stderr
    summary = call("sweep", "--grid", "grid.yaml", *HERE, "--mode", "retry-failed", "--json")
    assert summary.returncode == 1
    facts = json.loads(summary.stdout)
    assert (facts["done"], facts["failed"], facts["failures"][0]["seed"]) == (1, 1, 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sweep"], "name what to run"),
        (["sweep", "--methods", "ce"], "--protocols"),
        (["sweep", "--protocols", "distill-sme"], "did you mean 'distill-same'"),
        (["sweep", "--protocols", "distill-same,"], "no list of names"),
        ([*SWEEP, "--grid", "grid.yaml"], "not both"),
        (["sweep", "--grid", "grid.yaml"], "cannot read grid"),
        ([*SWEEP, "--seeds", "3-1"], "seeds '3-1'"),
        ([*SWEEP, "--device", "tpu"], "unknown device"),
        ([*SWEEP, "--slurm-time", "5"], "--executor slurm"),
        ([*SWEEP, "-j", "0"], "range x>=1"),
        ([*SWEEP, *SMOKE, "--results", "/dev/null/runs"], "cannot write to results folder"),
        (["sweep", "--protocols", "distill-cross", "--methods", "kd", "--datasets", "tiny"], "nothing of it applies"),
        (["status"], "no sweep was begun"),
    ],
)
def test_sweep_reports_bad_input_in_one_line_with_exit_2(call: Call, words: list[str], message: str) -> None:
    done = call(*words)
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert "Traceback" not in done.stderr


def members(session: int) -> list[int]:
    """Return the processes of a session that have not ended."""
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            pids.append(int(folder.name))
    return pids


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="counts processes by Linux's /proc")
@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 2), (signal.SIGTERM, 1)])
def test_sweep_ends_soon_after_a_signal_and_leaves_no_process(
    tmp_path: Path, number: signal.Signals, workers: int
) -> None:
    environment = {
        **os.environ, "BENCHMARK_DATA": str(tmp_path / "data"), "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    program = [sys.executable, "-m", "benchmark", *SWEEP, "--set", "teacher.steps=100000", "--seeds", "0-4"]
    program += ["-j", str(workers)]
    process = subprocess.Popen(
        program, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + 120
        while len(list((tmp_path / "results/runs/.claims").glob("*"))) < workers and time.monotonic() < until:
            time.sleep(0.1)
        assert len(members(process.pid)) >= workers + 1
        if number is signal.SIGINT:
            os.killpg(process.pid, number)  # a terminal sends it to the whole group
        else:
            process.send_signal(number)
        began = time.monotonic()
        _, errors = process.communicate(timeout=60)
        assert time.monotonic() - began < 10
        assert process.returncode == 130
        assert errors.splitlines()[-1].startswith("error: interrupted")
        assert "the same command resumes" in errors
        assert "Traceback" not in errors
        until = time.monotonic() + 5
        while members(process.pid) and time.monotonic() < until:
            time.sleep(0.1)
        assert not members(process.pid)
    finally:
        for pid in members(process.pid):
            os.kill(pid, signal.SIGKILL)
    assert not list((tmp_path / "results/runs").glob("*.json"))


LOGGED = """
import sys
from benchmark.experiment import runner
from benchmark.cli import main

measure = runner.measure

def logged(plan, spec, *rest):
    with open("measured.log", "a") as file:
        file.write(f"{spec.key} {sys.argv[-1]}\\n")
    return measure(plan, spec, *rest)

runner.measure = logged
main()
"""


@pytest.mark.slow
def test_two_sweeps_at_once_never_run_a_job_twice(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "BENCHMARK_DATA": str(tmp_path / "data"), "PYTHONPATH": str(root)}
    words = ["sweep", "--protocols", "distill-same,distill-cross", "--methods", "ce,rkd,pkt,sp", "--seeds", "0-2"]
    words += ["--datasets", "tiny", "--limit-steps", "25", "--executor", "serial", "--device", "cpu"]
    sweeps = [
        subprocess.Popen(
            [sys.executable, "-c", LOGGED, *words, f"--retries={number}"],
            cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for number in (1, 2)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=480)[0] for process in sweeps]
    finally:
        for process in sweeps:
            process.kill()
    assert [process.returncode for process in sweeps] == [0, 0], outputs
    measured = [line.split() for line in (tmp_path / "measured.log").read_text().splitlines()]
    keys = [key for key, _ in measured]
    assert len(keys) == len(set(keys)) == 2 * 4 * 3
    assert len({who for _, who in measured}) == 2, "one sweep ran everything"
    assert len(list((tmp_path / "results/runs").glob("*.json"))) == 2 * 4 * 3
    assert not [path for path in (tmp_path / "results/runs/.claims").iterdir() if path.stat().st_size]


def test_a_wrong_setting_names_the_runs_that_it_is_unknown_to(call: Call) -> None:
    words = ["sweep", "--protocols", "fewshot-5way1shot,distill-same", "--methods", "kd", "--datasets", "tiny"]
    done = call(*words, "--set", "protocol.episodes=9", "--dry-run")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: distill-same tiny kd: no setting protocol.episodes; known:")


def test_sweep_takes_teacher_and_student(call: Call, tmp_path: Path) -> None:
    words = ["sweep", "--protocols", "distill-cross", "--methods", "rkd", "--datasets", "tiny", *SMOKE, *HERE]
    assert call(*words, "--teacher", "conv4-32", "--student", "conv4-8").returncode == 0
    (record,) = (json.loads(path.read_text()) for path in (tmp_path / "results/runs").glob("*.json"))
    assert (record["teacher"], record["backbone"]) == ("conv4-32", "conv4-8")
    assert "unknown backbone" in call(*words, "--student", "conv5-8").stderr


@pytest.mark.parametrize(
    "words",
    [
        [*SWEEP, *HERE], ["sweep", *SWEEP[1:], "--executor", "slurm"],
        ["run", "--protocol", "distill-same", "--method", "ce", "--dataset", "tiny"],
        ["tune", "--protocol", "distill-same", "--method", "ce", "--datasets", "tiny"],
    ],
    ids=["sweep", "slurm", "run", "tune"],
)  # fmt: skip
def test_dry_run_writes_nothing(call: Call, tmp_path: Path, words: list[str]) -> None:
    done = call(*words, "--limit-steps", "3", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_dry_run_on_slurm_prints_the_scripts(call: Call, tmp_path: Path) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        "- {protocols: distill-same, methods: kd, datasets: tiny, seeds: 0-2, slurm: {time: 90, account: me}}\n"
        "- {protocols: distill-same, methods: rkd, datasets: tiny}\n"
    )
    words = ["--slurm-partition", "gpu", "--slurm-memory", "8", "--slurm-cpus", "4", "-j", "2"]
    done = call("sweep", "--grid", "grid.yaml", "--executor", "slurm", *words, "--dry-run")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.split("#!/bin/bash")[1:]
    for text, lines in (
        (first, ["--array=0-2%2", "--time=90", "--account=me", "--partition=gpu", "--mem=8GB", "--cpus-per-task=4"]),
        (second, ["--array=0-0%1", "--time=60", "--partition=gpu"]),
    ):
        assert all(f"#SBATCH {line}\n" in text for line in lines), text
        assert "export OMP_NUM_THREADS=4" in text
    assert "--account" not in second
    assert "4 starts of a process and 1 teacher to train" in done.stdout
