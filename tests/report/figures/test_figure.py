"""Contract of every registered figure, and how drawings become files."""

from __future__ import annotations

import dataclasses
import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from benchmark.errors import InputError
from benchmark.records.store import DamagedArrays, Store
from benchmark.report.aggregation import group_by_method
from benchmark.report.figures import FIGURES, NothingToDraw, RenderedFigure, ResultSet, draw, drawings, style, to_svg
from benchmark.system.files import file_name
from tests.report.figures.synthetic import record, records, results

NAMES = (
    "overlap", "accuracy", "fewshot", "shots", "incremental", "significance", "cost", "curves", "weights", "embeddings",
    "confusion",
)  # fmt: skip
DRAWN_TWICE = "overlap", "incremental", "embeddings"
"""One figure each of lines, of dots whose names are placed, and of t-SNE."""

ONE_OF_ELSEWHERE = {
    "overlap": "fewshot-5way1shot",
    "fewshot": "distill-same",
    "shots": "distill-same",
    "incremental": "distill-same",
    "weights": "fewshot-5way1shot",
    "embeddings": "fewshot-5way1shot",
    "accuracy": "fewshot-5way1shot",
    "confusion": "fewshot-5way1shot",
}


def result_set_of(*runs: dict[str, Any]) -> ResultSet:
    return ResultSet(group_by_method(runs), Store(Path()))


def groups_of(*runs: dict[str, Any]) -> list[tuple[str, list[str]]]:
    return [(g.name("cost"), [g.label(result) for result in g.results]) for g in result_set_of(*runs).groups()]


def test_registry_has_all_figures() -> None:
    assert set(FIGURES.names()) == set(NAMES)


@pytest.fixture(scope="session")
def render(full: ResultSet) -> Callable[[str], list[RenderedFigure]]:
    """Return the drawings of a figure, rendered once for all tests."""
    return functools.cache(lambda name: drawings(name, full)[0])


@pytest.mark.parametrize("name", NAMES)
def test_figure_has_drawings_with_names_and_data(name: str, render: Callable[[str], list[RenderedFigure]]) -> None:
    assert FIGURES.help(name).endswith(".")
    rendered = render(name)
    assert len({drawing.name for drawing in rendered}) == len(rendered) > 0
    for drawing in rendered:
        assert drawing.name == file_name(drawing.name)
        assert drawing.name.startswith(name)
        assert isinstance(drawing.figure, Figure)
        assert not drawing.data.empty


@pytest.mark.parametrize("name", DRAWN_TWICE)
def test_figure_is_equal_for_equal_results(
    name: str, full: ResultSet, render: Callable[[str], list[RenderedFigure]]
) -> None:
    first, (second, reason) = render(name), drawings(name, full)
    assert reason is None
    for one, other in zip(first, second, strict=True):
        assert one.name == other.name
        pd.testing.assert_frame_equal(one.data, other.data)
    assert to_svg(first[0].figure) == to_svg(second[0].figure)


def cut_off(rendered: list[RenderedFigure]) -> list[str]:
    """Return the names of drawings that exceed their figures."""
    names = []
    for drawing in rendered:
        with style.styled():
            box = drawing.figure.get_tightbbox()
        width, height = drawing.figure.get_size_inches()
        if min(box.x0, box.y0) < 0 or box.x1 > width or box.y1 > height:
            names.append(drawing.name)
    return names


@pytest.mark.parametrize("name", NAMES)
def test_figure_is_not_cut_off_at_its_edges(name: str, render: Callable[[str], list[RenderedFigure]]) -> None:
    assert cut_off(render(name)) == []


@pytest.mark.parametrize("name", ["fewshot", "significance"])
def test_title_with_changed_settings_is_not_cut_off(name: str, full: ResultSet) -> None:
    """A narrow figure and a wide one."""
    settings = "+protocol.episodes=2000+training.steps=600"
    changed = [
        dataclasses.replace(c, conditions=dataclasses.replace(c.conditions, preset=c.conditions.preset + settings))
        for c in full.results
    ]
    rendered = drawings(name, ResultSet(changed, full.store))[0]
    assert rendered
    assert cut_off(rendered) == []


@pytest.mark.parametrize("name", NAMES)
def test_figure_without_fitting_records_gives_a_reason(name: str) -> None:
    rendered, reason = drawings(name, result_set_of())
    assert rendered == []
    assert reason
    elsewhere = ONE_OF_ELSEWHERE.get(name)
    if elsewhere is not None:
        assert drawings(name, result_set_of(record(elsewhere, "ce", 0, 0.5)))[0] == []


@pytest.mark.parametrize("name", NAMES)
def test_figure_leaves_out_failed_and_published_runs(name: str) -> None:
    runs = [record(p, m, s, 0.5) for p in ("distill-same", "fewshot-5way1shot") for m in ("ce", "kd") for s in (0, 1)]
    failed = [{**run, "status": "failed"} for run in runs]
    elsewhere = [{**run, "provenance": "reported-in-paper"} for run in runs]
    assert drawings(name, result_set_of(*failed, *elsewhere))[0] == []


def test_draw_writes_three_files_and_returns_reasons_for_the_others(full: ResultSet, tmp_path: Path) -> None:
    few = result_set_of(*(run for run in records(seeds=(0,)) if run["protocol"].startswith("fewshot")))
    written, skipped = draw(["fewshot", "overlap"], few, tmp_path / "new" / "out")
    names = ["fewshot-5way1shot-glyphs", "fewshot-5way5shot-glyphs"]
    assert sorted(path.name for path in written) == sorted(
        f"{n}.{kind}" for n in names for kind in ("pdf", "png", "csv")
    )
    assert all(path.is_file() for path in written)
    assert sorted((tmp_path / "new" / "out").iterdir()) == sorted(written)
    assert list(skipped) == ["overlap"]
    assert "distill-cross" in str(skipped["overlap"])


def test_draw_refuses_unknown_names_and_unwritable_folders(tmp_path: Path) -> None:
    few = result_set_of(record("fewshot-5way1shot", "ce", 0, 0.5))
    with pytest.raises(InputError, match="unknown figure 'fewshots'; did you mean 'fewshot'"):
        draw(["fewshots"], few, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--out DIR"):
        draw(["fewshot"], few, tmp_path / "file")
    assert issubclass(NothingToDraw, InputError)


PAIR = [record("fewshot-5way1shot", method, s, 0.5 + s / 9) for method in ("a", "b") for s in range(3)]
DRAW = """
import sys
from pathlib import Path
from benchmark.report.figures import draw
from tests.report.figures.test_figure import PAIR, result_set_of
draw(["fewshot"], result_set_of(*PAIR), Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_draw_writes_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    draw(["fewshot"], result_set_of(*PAIR), tmp_path / "here")
    elsewhere = {**os.environ, "PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo", "SOURCE_DATE_EPOCH": "1"}
    subprocess.run([sys.executable, "-c", DRAW, str(tmp_path / "there")], check=True, env=elsewhere)
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("here", "there"))
    assert len(first) == 3
    assert first == second


def test_group_names_differ_if_conditions_differ() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"dataset": "emoji"},
        {"preset": "paper"},
        {"preset": "quick+training.lr=0.2"},
        {"backbone": "conv4-32"},
        {"teacher": "conv4-128"},
        {"preset": "paper", "backbone": "conv4-64"},
    ]
    groups = groups_of(*(record("distill-cross", "ce", 0, 0.5, **change) for change in changes))
    assert [name for name, _ in groups] == [
        "cost-distill-cross-emoji",
        "cost-distill-cross-glyphs-paper-conv4-16-from-conv4-64",
        "cost-distill-cross-glyphs-paper",
        "cost-distill-cross-glyphs-conv4-16-from-conv4-128",
        "cost-distill-cross-glyphs",
        "cost-distill-cross-glyphs-conv4-32-from-conv4-64",
        "cost-distill-cross-glyphs-quick-training.lr-0.2-c9ecfaf4",
    ]


def test_group_name_of_an_unknown_protocol_holds_both_networks() -> None:
    ((name, _),) = groups_of(record("my-protocol", "ce", 0, 0.5))
    assert name == "cost-my-protocol-glyphs-conv4-16-from-conv4-64"


def test_file_name_is_safe_and_distinct() -> None:
    assert file_name("overlap-glyphs-quick_training.lr-0.2") == "overlap-glyphs-quick_training.lr-0.2"
    odd = [file_name(text) for text in ("a/b", "a:b", "a b", "x" * 300, "x" * 301)]
    assert len(set(odd)) == 5
    assert all(len(name) < 120 and "/" not in name and " " not in name for name in odd)


def test_groups_add_the_frozen_teacher_to_students_of_another_backbone() -> None:
    runs = [record("distill-cross", method, 0, 0.5) for method in ("ce", "ncm", "linear-probe")]
    assert groups_of(*runs) == [("cost-distill-cross-glyphs", ["ce", "linear-probe†", "ncm†"])]
    (group,) = result_set_of(*runs).groups()
    assert "conv4-64" in group.footnote
    assert group.only(group.results[:1]).footnote == ""


def test_groups_separate_students_with_the_teachers_backbone() -> None:
    teacher_sized = {"backbone": "conv4-64"}
    runs = [record("distill-cross", "ce", 0, 0.5, **change) for change in ({}, teacher_sized)]
    runs.append(record("distill-cross", "ncm", 0, 0.5))
    assert groups_of(*runs) == [
        ("cost-distill-cross-glyphs", ["ce", "ncm†"]),
        ("cost-distill-cross-glyphs-conv4-64-from-conv4-64", ["ce", "ncm"]),
    ]
    assert groups_of(record("distill-cross", "ncm", 0, 0.5)) == [
        ("cost-distill-cross-glyphs-conv4-64-from-conv4-64", ["ncm"])
    ]


def test_drawings_refuse_damaged_arrays(tmp_path: Path) -> None:
    result_set = results([record("distill-overlap60", "ce", 0, 0.5)], tmp_path)
    (path,) = tmp_path.glob("*.npz")
    path.write_bytes(b"")
    made, reason = drawings("weights", result_set)
    assert not made
    assert isinstance(reason, DamagedArrays)
    assert "damaged" in str(reason)
