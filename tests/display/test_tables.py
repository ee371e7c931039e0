"""Tables in terminals of 80 and 50 columns, and in a pipe."""

from __future__ import annotations

import re
from typing import Any

import pytest

from benchmark.display.tables import print_comparisons, print_leaderboard, print_records, print_table
from benchmark.records.store import Store
from benchmark.report.aggregation import group_by_method
from benchmark.report.compare import compare, to_rows

VALUES = {"refilled": [0.8012, 0.8234, 0.8345], "ce": [0.7001, 0.7312, 0.7123]}
FACTS = {"images_per_class": 2, "classes": 42}
REFERENCES = {"teacher_ncm": {"value": 0.6789, "intervals": {}}, "chance": {"value": 1 / 42, "intervals": {}}}


def record(method: str, seed: int, value: float, **changes: Any) -> dict[str, Any]:
    return {
        "key": f"{method}{seed}{changes}", "status": "done", "provenance": "measured", "protocol": "distill-overlap40",
        "dataset": "glyphs", "preset": "quick+training.steps=600", "teacher": "conv4-64", "backbone": "conv4-16",
        "method": method, "seed": seed, "metric": "accuracy", "value": value, "started": "2026-01-01",
        "intervals": {"image": {"half_width": 0.0123, "n": 100}}, "references": REFERENCES, "facts": FACTS,
        "student_facts": {"steps": 300, "seconds": 9.0}, "teacher_facts": {"accuracy": 0.4321}, **changes,
    }  # fmt: skip


RECORDS = [record(m, s, v) for m, values in VALUES.items() for s, v in enumerate(values)]


@pytest.fixture(params=[80, 50])
def terminal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(request.param))
    width: int = request.param
    return width


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)


@pytest.mark.parametrize("dataset", ["glyphs", "emoji"])
def test_compare_fits_the_terminal_with_every_number(
    terminal: int, dataset: str, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    """With one set of conditions, and with two, whose data set then becomes a column."""
    records = [*RECORDS, *(record(r["method"], r["seed"], r["value"] / 2, dataset=dataset) for r in RECORDS)]
    results = group_by_method(records if dataset == "emoji" else RECORDS)
    comparisons, _ = compare(results, ["refilled", "ce"], Store(tmp_path))
    print_comparisons(comparisons, results)
    text = shown(capsys)
    assert max(map(len, text.splitlines())) <= terminal
    for row in to_rows(comparisons):
        for name in ("a_mean", "b_mean"):
            assert f"{100 * row[name]:.2f}" in text
        assert f"{100 * row['difference']:+.2f}" in text
        assert f"± {100 * row['ci95']:.2f}" in text
    for word in ("distill-overlap40", "seeds", "conv4-16", "67.89", "2.38", "A = refilled, B = ce"):
        assert word in text
    assert "2 images per class" in " ".join(text.split())
    assert "effect" not in text


def test_compare_prints_more_with_details(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    comparisons, _ = compare(group_by_method(RECORDS), ["refilled", "ce"], Store(tmp_path))
    print_comparisons(comparisons)
    assert "± image" not in shown(capsys)
    print_comparisons(comparisons, details=True)
    assert {"d", "p"} <= set(re.split(r"\s{2,}", shown(capsys).splitlines()[2].strip()))


def test_leaderboard_fits_the_terminal_and_holds_the_references(
    terminal: int, capsys: pytest.CaptureFixture[str]
) -> None:
    print_leaderboard(group_by_method([*RECORDS, record("kd", 0, 0.5)]))
    text = shown(capsys)
    assert max(map(len, text.splitlines())) <= terminal
    lines = [line.split() for line in text.splitlines()]
    for words in (["1", "refilled", "81.97"], ["2", "ce", "71.45"], ["3", "kd", "50.00"], ["chance", "2.38"]):
        assert any(line[: len(words)] == words for line in lines), (words, text)
    assert "67.89" in text
    assert "incomplete" in text
    assert "2 images per class, 42 classes, teacher 43.2 %" in " ".join(text.split())


def test_run_fits_the_terminal_and_names_images_per_class(terminal: int, capsys: pytest.CaptureFixture[str]) -> None:
    print_records(RECORDS[:3])
    text = shown(capsys)
    assert max(map(len, text.splitlines())) <= terminal
    for word in ("80.12", "82.34", "83.45", "± 1.23", "67.89", "2.38", "300"):
        assert word in text
    assert "2 images per class" in " ".join(text.split())


def test_run_of_a_protocol_without_recorded_chance_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    print_records([record("ce", 0, 0.5, protocol="fewshot-5way1shot", facts={}, references={})])
    assert "20.00" in shown(capsys)


def test_piped_table_is_not_cut(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    print_table("title", ["name", "text"], [["a", "x" * 500 + " [bold]y[/bold]"]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].endswith("x" * 500 + " [bold]y[/bold]")
    assert len(lines) == 3
