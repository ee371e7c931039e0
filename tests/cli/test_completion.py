"""What a shell offers when Tab is pressed."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.methods import METHODS
from protocols import PROTOCOLS

HEAVY = ("torch", "numpy", "pandas", "matplotlib", "scipy", "learn2learn", "avalanche")


def offered(line: str, cwd: Path, shell: str = "bash") -> list[str]:
    """The answer of ``python -m benchmark`` to a shell that stands at the end of ``line``."""
    words = line.split(" ")
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    if shell != "bash":
        asked = {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    environment = {**os.environ, **asked, "_BENCHMARK_COMPLETE": f"complete_{shell}"}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "benchmark"], capture_output=True, text=True, env=environment,
        cwd=cwd, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    found = sorted(imported & {"benchmark.cli", *HEAVY})
    assert found == ["benchmark.cli"]
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "names"),
    [
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
    ],
)
def test_names_are_offered(tmp_path: Path, line: str, names: list[str]) -> None:
    for folder, key in (("results/runs", "123456789abc"), ("elsewhere", "fedcba987654")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / f"distill-same.glyphs.ce.s0.{key}.json").touch()
    found = offered(line, tmp_path)
    assert sorted(found) == sorted(names)


def test_all_names_are_offered(tmp_path: Path) -> None:
    assert set(offered("benchmark run --method ", tmp_path)) == set(METHODS.names())
    assert set(offered("benchmark run --protocol ", tmp_path)) == set(PROTOCOLS.names())


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_answered_in_their_way(tmp_path: Path, shell: str) -> None:
    found = " ".join(offered("benchmark run --protocol distill-sa", tmp_path, shell))
    assert found == ("distill-same" if shell == "fish" else "_arguments '*: :((\"distill-same\"))'")


def test_bash_completes_the_command(tmp_path: Path) -> None:
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
