"""Every command ends its help with examples that can be typed."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from benchmark.cli import app

from .conftest import Call

ROOT_FOLDER = Path(__file__).parents[2]
CALLED = "python -m benchmark "


def walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every visible command and group, with its words."""
    yield path, command
    for name, part in getattr(command, "commands", {}).items():
        if not part.hidden:
            yield from walk(part, (*path, name))


ROOT = typer.main.get_command(app)
COMMANDS = dict(walk(ROOT))


def examples(command: Any) -> list[str]:
    """The lines of the epilog below its heading."""
    heading, *lines = (command.epilog or "").replace("\b", "").strip().splitlines()
    assert heading in ("Example:", "Examples:")
    assert (heading == "Examples:") == (len(lines) > 1)
    return [line.strip() for line in lines]


def parse(words: list[str]) -> tuple[str, ...]:
    """Read a line as far as calling the command; its words. What does not exist raises click's usage error."""
    command, path = ROOT, []
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        path.append(words[0])
        command = command.commands[words[0]]
        words = words[1:]
    try:
        with command.make_context(" ".join(path), list(words)):
            pass
    except typer.Exit:
        assert words == ["--help"]
    return tuple(path)


def test_the_walk_sees_every_command() -> None:
    assert len(COMMANDS) > 15
    assert {("run",), ("sweep",), ("data", "import"), ("check",), ("new", "method")} <= set(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_examples_can_be_parsed(path: tuple[str, ...]) -> None:
    lines = examples(COMMANDS[path])
    assert 1 <= len(lines) <= 3
    for line in lines:
        assert line.startswith(CALLED)
        assert len(line) <= 120
        reached = parse(shlex.split(line.removeprefix(CALLED)))
        assert reached[: len(path)] == path, f"it is of {' '.join(reached)}"


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_ends_with_its_examples(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        COMMANDS[path].make_context(" ".join(path), ["--help"])
    shown = [line.strip() for line in capsys.readouterr().out.rstrip().splitlines()]
    wanted = examples(COMMANDS[path])
    assert shown[-len(wanted) :] == wanted


@pytest.mark.parametrize("path", [path for path in COMMANDS if path], ids=" ".join)
def test_command_list_shows_whole_sentences(path: tuple[str, ...]) -> None:
    assert not COMMANDS[path].get_short_help_str(limit=60).endswith("...")


@pytest.mark.parametrize("line", ["run --nonsense", "list nonsense", "data import", "run --seed x"])
def test_parse_refuses_a_wrong_example(line: str) -> None:
    with pytest.raises(typer.BadParameter.__mro__[1]):
        parse(line.split())


def test_an_option_given_twice_is_refused(call: Call) -> None:
    done = call("leaderboard", "--protocol", "a", "--protocol", "b")
    assert done == (2, "", "error: --protocol is given 2 times, and takes one value\n")
    assert "given" not in call("run", "--protocol", "p", "--method", "m", "--set", "a.b=1", "--set", "a.c=2").stderr


def test_ascii_output_spells_signs_and_ends_well(tmp_path: Path) -> None:
    words = ["run", "--protocol", "distill-cross", "--method", "ce", "--dataset", "tiny", "--limit-steps", "2"]
    words = [sys.executable, "-m", "benchmark", *words, "--data", str(tmp_path / "data")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT_FOLDER), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "+- image" in done.stdout


def test_user_without_a_home_is_told_of_data(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(name: str) -> str:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("BENCHMARK_DATA")
    monkeypatch.setattr("platformdirs.user_cache_path", no_home)
    done = call("run", "--protocol", "distill-cross", "--method", "ce", "--dataset", "tiny")
    assert done == (2, "", "error: this user has no home folder for data sets and teachers; use --data DIR\n")
