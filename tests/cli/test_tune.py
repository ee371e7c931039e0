from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from benchmark.report.page.runs import rerun_command
from protocols import tuned_settings

from .conftest import Call

TUNE = ["tune", "--protocol", "distill-cross", "--datasets", "tiny", "--trials", "3", "--out", "chosen"]
SMOKE = ["--limit-steps", "3", "--device", "cpu", "-j", "1"]


@pytest.mark.slow
def test_tune_runs_trials_saves_the_best_and_resumes(call: Call, tmp_path: Path) -> None:
    dry = call(*TUNE, *SMOKE, "--method", "ce,kd", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "n/a: kd on distill-cross" in dry.stdout
    assert "3 runs left" in dry.stdout
    assert not (tmp_path / "chosen").exists()

    done = call(*TUNE, *SMOKE, "--method", "ce,kd")
    assert done.returncode == 0, done.stderr
    log = (tmp_path / "chosen/distill-cross.csv").read_text().splitlines()
    assert log[0] == "method,trial,settings,tiny s1000,mean,chosen"
    assert len(log) == 4
    records = [json.loads(path.read_text()) for path in (tmp_path / "results/tuning").glob("*.json")]
    assert {record["config"]["protocol"]["split"] for record in records} == {"val"}
    assert {record["seed"] for record in records} == {1000}
    best = max(records, key=lambda record: record["value"])["value"]
    assert [line for line in log if line.endswith(f"{best:.6f},yes")]
    settings = (tmp_path / "chosen/distill-cross.toml").read_text()
    assert "3 trials a method, judged on validation data of tiny s1000" in settings

    again = call(*TUNE, *SMOKE, "--method", "ce")
    assert "nothing to do" in again.stdout
    assert (tmp_path / "chosen/distill-cross.toml").read_text() == settings


def test_tune_reports_bad_input_in_one_line(call: Call) -> None:
    for arguments, message in (
        (["--method", "ce", "--seeds", "3"], "tuning takes seeds from 1000 on"),
        (["--method", "ncm"], "ncm has nothing to tune"),
        (["--method", "cee"], "did you mean"),
    ):
        refused = call(*TUNE, *SMOKE, *arguments)
        assert refused.returncode == 2
        assert message in refused.stderr
        assert refused.stderr.count("\n") == 1


@pytest.mark.slow
def test_tune_prints_the_command_that_uses_its_choice_and_leaves_the_package_alone(call: Call, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in tuned_settings.folder().iterdir()}
    done = call(*TUNE[:-2], *SMOKE, "--method", "ce")
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in tuned_settings.folder().iterdir()} == before
    file = tmp_path / "results/tuning/tuned/distill-cross.toml"
    ((last,),) = (re.findall("python -m benchmark (run .*)", line) for line in done.stdout.splitlines()[-1:])
    lr = tuned_settings.read(file)["ce"]["training"]["lr"]
    (record,) = json.loads(call(*shlex.split(last), *SMOKE[:4], "--json").stdout)
    assert record["config"]["training"]["lr"] == lr
    assert re.fullmatch(r"distill-cross@[0-9a-f]{8}\+.*", record["preset"])
    for words in ([*shlex.split(last)[:-1], str(file.parent)], shlex.split(rerun_command(record))[3:]):
        steps = [] if "training.steps=3" in words else SMOKE[:2]
        again = call(*words, *steps, "--json", "--mode", "only-cache")
        assert again.returncode == 0, again.stderr
        assert json.loads(again.stdout)[0]["key"] == record["key"]


def test_tune_takes_one_folder_of_results(call: Call) -> None:
    words = ["tune", "--protocol", "distill-same", "--method", "ce", "--datasets", "tiny", "--dry-run"]
    done = call(*words, "--results", "a", "--results", "b")
    assert (done.returncode, "--results is given 2 times" in done.stderr) == (2, True)
