"""Every command ends its help with examples that can be typed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from benchmark.cli import app

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
