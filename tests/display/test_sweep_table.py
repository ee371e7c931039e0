from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmark.display.sweep_table import Board, duration, estimate
from benchmark.sweep.executors.base import Outcome
from benchmark.sweep.grid import GridBlock
from benchmark.sweep.jobs import Cell, plan_cells
from benchmark.system.progress import Silent


def cells() -> tuple[Cell, ...]:
    return plan_cells([GridBlock(("distill-same",), ("ce",), ("tiny",), (0, 1, 2))], Path("nowhere"), Silent()).cells


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (89, "89 s"), (120, "2 min"), (5300, "88 min"), (5400, "1 h 30 min"), (12_020, "3 h 20 min")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_the_estimate_says_what_it_does_not_know() -> None:
    chosen = cells()
    first, second, _ = (cell.key for cell in chosen)
    assert estimate(chosen, {}, 2) == "3 cells to do, 2 at a time: time not known (no earlier record is like them)"
    told = estimate(chosen, {first: 60.0, second: 40.0}, 2)
    assert told.startswith("3 cells to do, 2 at a time: about 50 s (by earlier records; 1 of them have no")
    assert estimate(chosen[:1], {first: 60.0}, 8) == "1 cell to do, 1 at a time: about 60 s (by earlier records)"


@pytest.mark.parametrize("columns", ["80", "120"])
def test_on_a_terminal_it_shows_what_is_at_work(
    columns: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm")
    chosen = cells()
    with Board(chosen, {cell.key: 30.0 for cell in chosen}, 2) as board:
        for cell in chosen[:2]:
            board.started(cell)
        board.advanced(chosen[0], "teacher conv4-64", 30, 60, "train ce 1.25 [odd] " + "words " * 30)
        board.finished(chosen[1], Outcome(chosen[1].key, "failed", error="ValueError: [no] markup"))
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


def test_elsewhere_it_writes_a_line_a_run(capfd: pytest.CaptureFixture[str]) -> None:
    chosen = cells()
    with Board(chosen, {}, 1) as board:
        for cell, status in zip(chosen, ("done", "busy"), strict=False):
            board.started(cell)
            board.advanced(cell, "ce", 1, 2, "loss")
            board.finished(cell, Outcome(cell.key, status, value=0.5 if status == "done" else None))  # type: ignore[arg-type]
    lines = capfd.readouterr().err.splitlines()
    assert lines == [
        "[1/3] distill-same tiny ce s0: 50.00 % in 0 s",
        "distill-same tiny ce s1: another process is at it; left for the end",
    ]
