"""Descriptions of methods in `show method` and `list methods`."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Lt

from benchmark.cli import main
from benchmark.methods import METHODS
from benchmark.methods.description import describe, type_text


@pytest.mark.parametrize("name", METHODS.names())
def test_describe_covers_every_method(name: str) -> None:
    entry = METHODS.get(name).entry
    text, settings, needs, stages = describe(entry)
    assert text.startswith(METHODS.help(name))
    assert [row[0] for row in settings] == [field.name for field in dataclasses.fields(entry.Settings)]
    assert all(all(row) for row in settings)
    assert {row[0] for row in needs} >= {"teacher", "labels", "start", "trains"}
    assert stages


def test_type_text_is_readable() -> None:
    assert type_text(float) == "float"
    assert type_text(Literal["a", "b"]) == "a | b"
    assert type_text(int | None) == "int | NoneType"
    assert type_text(Annotated[float, Ge(0), Lt(1)]) == "float >= 0, < 1"


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["benchmark", *words])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def test_show_prints_the_description(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "show", "method", "refilled") == 0
    shown = capsys.readouterr().out
    for word in ("arXiv 2205.01915", "mask | truncate | triplet", "embedding_share", "classifier", "fresh"):
        assert word in shown
    assert call(monkeypatch, "show", "method", "refiled") == 2
    assert "did you mean 'refilled'" in capsys.readouterr().err


def test_list_methods_gives_the_reason(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    assert call(monkeypatch, "list", "methods", "--protocol", "fewshot-5way1shot") == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines if line.split()}
    assert "does not apply: the student starts from the teacher" in rows["finetune"]
    assert all("does not apply" not in rows[name] for name in ("ncm", "linear-probe", "crd", "kd"))
