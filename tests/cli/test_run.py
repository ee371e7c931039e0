from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import Call

RUN = ["run", "--protocol", "fewshot-5way1shot", "--method", "kd", "--dataset", "tiny"]
SMOKE = [
    "--limit-steps",
    "3",
    "--set",
    "protocol.episodes=50",
    "--set",
    "protocol.queries=4",
    "--set",
    "training.batch_size=8",
]


def test_run_saves_and_prints_records(call: Call, tmp_path: Path) -> None:
    first = call(*RUN, *SMOKE, "--seeds", "0,1")
    assert first.returncode == 0, first.stderr
    assert "mean over 2 seeds" in first.stdout
    assert "held-out accuracy" in first.stderr
    assert len(list((tmp_path / "results/runs").glob("*.json"))) == 2
    again = call(*RUN, *SMOKE, "--seeds", "0,1", "--json")
    assert again.returncode == 0
    records = json.loads(again.stdout)
    assert [r["seed"] for r in records] == [0, 1]
    assert all(f"{100 * r['value']:.2f}" in first.stdout for r in records)
    board = call("leaderboard", "--output", "board.csv")
    assert board.returncode == 0
    header, row, *_ = (tmp_path / "board.csv").read_text().splitlines()
    assert header.startswith("protocol,dataset,preset,teacher,backbone,method,metric,n_seeds,mean,ci95")
    assert ",kd,accuracy,2," in row
    shown = call("leaderboard")
    assert shown.returncode == 0
    assert "kd" in shown.stdout


def test_run_dry_run_trains_and_saves_nothing(call: Call, tmp_path: Path) -> None:
    done = call(*RUN, "--dry-run", "--json", "--set", "method.temperature=2")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["settings"]["method"]["temperature"] == 2.0
    assert facts["work"]["student_steps_per_seed"] == facts["settings"]["training"]["steps"] == 200
    assert not list(tmp_path.rglob("*.json"))


def test_run_options_name_both_networks(call: Call) -> None:
    short = call(*RUN, "--dry-run", "--json", "--teacher", "conv4-32", "--student", "resnet8")
    assert short.returncode == 0, short.stderr
    settings = json.loads(short.stdout)["settings"]
    assert (settings["teacher"]["backbone"], settings["student"]["backbone"]) == ("conv4-32", "resnet8")
    names = ("--set", "teacher.backbone=conv4-32", "--set", "student.backbone=resnet8")
    assert json.loads(short.stdout)["key"] == json.loads(call(*RUN, "--dry-run", "--json", *names).stdout)["key"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*RUN[:3], "--method", "kdd"], "did you mean 'kd'"),
        ([*RUN[:5], "--dataset", "glyph"], "did you mean 'glyphs'"),
        (["run", "--protocol", "fewshot-9way1shot", *RUN[3:]], "the split has 6"),
        ([*RUN, "--set", "method.temperature"], "section.name=value"),
        ([*RUN, "--set", "method.temperature=hot"], "method.temperature = 'hot'"),
        ([*RUN, "--seed", "1", "--seeds", "2"], "not both"),
        ([*RUN, "--teacher", "conv4-32", "--set", "teacher.backbone=conv4-64"], "teacher.backbone is given twice"),
        ([*RUN, "--student", "conv5-32"], "unknown backbone 'conv5-32'; did you mean"),
        ([*RUN, "--teacher", "nowhere/net.safetensors"], "cannot read the weights nowhere/net.safetensors"),
        ([*RUN, "--seeds", "2-1"], "seeds '2-1'"),
        ([*RUN, "--device", "tpu"], "unknown device"),
        ([*RUN, *SMOKE, "--results", "/dev/null/runs"], "cannot write to results folder"),
        ([*RUN, *SMOKE, "--data", "/dev/null/data"], "cannot keep teachers"),
        (["run", "--method", "kd"], "--protocol"),
        (["run", "--nonsense"], "--nonsense"),
        (["list", "nonsense"], "'protocols', 'methods', 'datasets', 'backbones', 'teachers'"),
        (["list", "datasets", "--protocol", "fewshot-5way1shot"], "goes with"),
        (["leaderboard", "--results", "nowhere"], "no results folder nowhere"),
        (["leaderboard", "--results", "."], "no records"),
        (["data", "show", "nonsense"], "unknown data set"),
        (["data", "show", "tiny", "--out", "no/folder.png"], "cannot write"),
    ],
)
def test_commands_refuse_bad_input_in_one_line_with_exit_2(call: Call, words: list[str], message: str) -> None:
    done = call(*words)
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_commands_name_a_damaged_record_and_keep_it(call: Call, tmp_path: Path) -> None:
    assert call(*RUN, *SMOKE, "--seeds", "0,1").returncode == 0
    damaged, good = sorted((tmp_path / "results/runs").glob("*.json"))
    damaged.write_text(damaged.read_text()[:100])
    kept = good.read_bytes()
    board = call("leaderboard")
    assert board.returncode == 1
    assert damaged.name in board.stderr
    assert "kd" in board.stdout
    half = damaged.read_bytes()
    cached = call(*RUN, *SMOKE, "--seed", "0", "--mode", "only-cache")
    assert cached.returncode == 2
    assert damaged.name in cached.stderr
    again = call(*RUN, *SMOKE, "--seed", "0")
    assert again.returncode == 0
    assert f"kept as {damaged.name}.damaged" in again.stderr
    assert damaged.with_name(f"{damaged.name}.damaged").read_bytes() == half
    assert good.read_bytes() == kept
    assert call("leaderboard").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_run_interrupted_exits_130_and_keeps_a_checkpoint(tmp_path: Path, number: signal.Signals) -> None:
    environment = {**os.environ, "BENCHMARK_DATA": str(tmp_path / "data")}
    program = [sys.executable, "-m", "benchmark", *RUN, "--set", "teacher.steps=100000"]
    process = subprocess.Popen(program, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "teacher" in process.stderr.readline()
    time.sleep(0.5)
    process.send_signal(number)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors.splitlines()[-1].startswith("error: interrupted")
    assert "Traceback" not in errors
    assert not list((tmp_path / "results").rglob("*.json"))
    assert len(list((tmp_path / "data/checkpoints").rglob("teacher.json"))) == 1
    assert not list(tmp_path.rglob("*.tmp"))


def test_list_prints_every_kind(call: Call) -> None:
    for kind, name in (
        ("protocols", "fewshot-5way1shot"),
        ("methods", "refilled"),
        ("datasets", "emoji"),
        ("backbones", "conv4-64"),
        ("backbones", "timm:NAME"),
        ("teachers", "efficientnet-lite0"),
    ):
        done = call("list", kind)
        assert done.returncode == 0
        assert name in done.stdout
    assert "applies" in call("list", "methods", "--protocol", "fewshot-5way1shot").stdout


def test_show_describes_a_method(call: Call) -> None:
    done = call("show", "method", "refilled")
    assert done.returncode == 0
    for word in ("2205.01915", "margin", "0.2", "embedding", "classifier", "mask | truncate | triplet"):
        assert word in done.stdout
    assert call("show", "method", "refiled").returncode == 2


def test_help_and_list_are_fast() -> None:
    """Generous bounds for a busy machine; what keeps them fast is that no heavy package is imported."""
    for words in (["--help"], ["list", "methods"]):
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "benchmark", *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0
        assert time.perf_counter() - started < 5


def test_command_without_arguments_shows_help(call: Call) -> None:
    for words in ([], ["data"]):
        done = call(*words)
        assert done.returncode == 2
        assert "Usage" in done.stdout
    assert call("--help").returncode == 0


def test_data_show_draws_a_contact_sheet(call: Call, tmp_path: Path) -> None:
    done = call("data", "show", "tiny", "--out", "sheet.png")
    assert done.returncode == 0
    assert "train" in done.stdout
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
