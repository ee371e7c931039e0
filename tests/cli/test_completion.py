"""What a shell offers when Tab is pressed."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmark.methods import METHODS
from protocols import PROTOCOLS

HEAVY = ("torch", "numpy", "pandas", "matplotlib", "scipy", "learn2learn", "avalanche")
NAMES = [
    ("benchmark le", ["leaderboard"]),
    ("benchmark run --proto", ["--protocol"]),
    ("benchmark run --protocol distill-c", ["distill-cross"]),
    ("benchmark run --method refilled", ["refilled", "refilled-cvpr20"]),
    ("benchmark run --dataset gl", ["glyphs"]),
    ("benchmark run --recipe repd", ["repdistiller-cifar100"]),
    ("benchmark run --teacher effi", ["efficientnet-lite0"]),
    ("benchmark run --student conv4-1", ["conv4-16"]),
    ("benchmark run --protocol distill-same --preset ", ["quick", "paper"]),
    ("benchmark sweep --methods al", ["all"]),
    ("benchmark sweep --methods ce,linear-", ["ce,linear-probe"]),
    ("benchmark list methods --protocol distill-sa", ["distill-same"]),
    ("benchmark compare refilled rk", ["rkd"]),
    ("benchmark show m", ["method"]),
    ("benchmark show method fit", ["fitnet"]),
    ("benchmark show recipe gkd-cu", ["gkd-cub"]),
    ("benchmark show 123", ["123456789abc"]),
    ("benchmark verify --results elsewhere fe", ["fedcba987654"]),
    ("benchmark check conv4-6", ["conv4-64"]),
    ("benchmark data show ti", ["tieredimagenet", "tiny"]),
]
"""What is typed, and the names that complete its last word."""

ANSWER = """
import contextlib, io, json, os, sys
from benchmark.cli import main

answers, lines = {}, json.loads(sys.argv[1])
sys.argv = ["benchmark"]
for line in lines:
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_BENCHMARK_COMPLETE": "complete_bash"}
    os.environ.update(asked)
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        main()
    answers[line] = printed.getvalue().split()
print(json.dumps({"answers": answers, "modules": sorted(sys.modules)}))
"""
"""Completes many lines in one process."""


@pytest.fixture(scope="module")
def completed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The answers to all lines, and the modules that were imported for them."""
    folder = tmp_path_factory.mktemp("completion")
    for results, key in (("results/runs", "123456789abc"), ("elsewhere", "fedcba987654")):
        (folder / results).mkdir(parents=True)
        (folder / results / f"distill-same.glyphs.ce.s0.{key}.json").touch()
    lines = [*(line for line, _ in NAMES), "benchmark run --method ", "benchmark run --protocol "]
    program = [sys.executable, "-c", ANSWER, json.dumps(lines)]
    done = subprocess.run(program, capture_output=True, text=True, cwd=folder, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(("line", "names"), NAMES)
def test_completion_offers_names(completed: dict[str, Any], line: str, names: list[str]) -> None:
    assert sorted(completed["answers"][line]) == sorted(names)


def test_completion_offers_all_names_without_a_prefix(completed: dict[str, Any]) -> None:
    assert set(completed["answers"]["benchmark run --method "]) == set(METHODS.names())
    assert set(completed["answers"]["benchmark run --protocol "]) == set(PROTOCOLS.names())


def test_completion_imports_nothing_heavy(completed: dict[str, Any]) -> None:
    assert "benchmark.cli" in completed["modules"]
    assert not set(HEAVY) & set(completed["modules"])


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_answers_other_shells(tmp_path: Path, shell: str) -> None:
    asked = {
        "_TYPER_COMPLETE_ARGS": "benchmark run --protocol distill-sa", "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_BENCHMARK_COMPLETE": f"complete_{shell}",
    }  # fmt: skip
    program = [sys.executable, "-m", "benchmark"]
    done = subprocess.run(
        program, capture_output=True, text=True, env={**os.environ, **asked}, cwd=tmp_path, timeout=60
    )
    assert done.returncode == 0, done.stderr
    answer = " ".join(done.stdout.split())
    assert answer == ("distill-same" if shell == "fish" else "_arguments '*: :((\"distill-same\"))'")


def test_completion_works_in_bash(tmp_path: Path) -> None:
    """The script that ``--show-completion`` prints, read by bash, which then presses Tab."""
    asked = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    shown = subprocess.run(
        [sys.executable, "-m", "benchmark", "--show-completion", "bash"], env=asked, capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    function, command = re.search(r"complete -o default -F (\w+) (\w+)", shown.stdout).groups()  # type: ignore[union-attr]
    assert command == "benchmark"
    script = tmp_path / "benchmark"
    script.write_text(f"#!{sys.executable}\nfrom benchmark.cli import main\nmain()\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    pressed = (
        f"{shown.stdout}\nCOMP_WORDS=(benchmark run --method dk)\nCOMP_CWORD=3\n{function} {script}\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "--norc", "-c", pressed], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["dkd"], done.stderr
