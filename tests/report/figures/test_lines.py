"""The figures overlap and shots."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats

from benchmark.records.store import Store
from benchmark.report.aggregation import group_by_method
from benchmark.report.figures import RenderedFigure, ResultSet, drawings, style
from tests.report.figures.synthetic import METHODS, record, records, results


def drawn(name: str, runs: list[dict[str, Any]]) -> RenderedFigure:
    (drawing,), reason = drawings(name, ResultSet(group_by_method(runs), Store(Path())))
    assert reason is None
    return drawing


def bars(figure: Figure) -> list[Any]:
    """Return the error bars over seeds."""
    return [bar for frame in figure.axes for container in frame.containers for bar in container[2]]


RUNS = [run for run in records() if run["protocol"].startswith(("distill", "middleshot"))]


@pytest.mark.parametrize(
    ("name", "column", "places"),
    [
        ("overlap", "share_percent", {"distill-cross": 0, "distill-overlap60": 60}),
        ("shots", "shots", {"middleshot-5way1shot": 1, "middleshot-5way10shot": 10}),
    ],
)
def test_line_data_are_means_and_intervals_over_seeds(name: str, column: str, places: dict[str, int]) -> None:
    data = drawn(name, RUNS).data
    methods = data.dropna(subset="method")
    for _, row in methods.iterrows():
        values = [r["value"] for r in RUNS if (r["protocol"], r["method"]) == (row["protocol"], row["method"])]
        assert row[column] == places[row["protocol"]]
        assert row["mean"] == pytest.approx(np.mean(values))
        assert row["ci95"] == pytest.approx(stats.t.ppf(0.975, 2) * stats.sem(values))
        assert row["n_seeds"] == 3
    expected = {(r["protocol"], r["method"]) for r in RUNS if r["protocol"] in places}
    assert set(zip(methods["protocol"], methods["method"], strict=True)) == expected


def test_lines_omit_a_variant_that_lacks_positions_of_its_method_with_a_note() -> None:
    """Its line would pass through positions without a measurement."""
    runs = [
        record(protocol, "refilled", seed, 0.5 + place / 10)
        for place, protocol in enumerate(("distill-cross", "distill-overlap40", "distill-same"))
        for seed in (0, 1)
    ]
    whole, part = "quick+method.margin=0.1", "quick+method.tuples=truncate"
    more = [{**run, "preset": whole, "key": f"w{i}"} for i, run in enumerate(runs)]
    some = [{**run, "preset": part, "key": f"p{i}"} for i, run in enumerate(runs) if "overlap" not in run["protocol"]]
    drawing = drawn("overlap", runs + more + some)
    named = set(drawing.data.dropna(subset="method")["line"])
    assert named == {"refilled", "refilled (margin=0.1)"}
    words = " ".join(text.get_text() for text in drawing.figure.texts)
    assert "not shown: 1 variant measured at some places only" in words
    assert "not shown" not in " ".join(text.get_text() for text in drawn("overlap", runs + more).figure.texts)


def test_references_are_lines_without_a_method() -> None:
    runs = [record("distill-cross", "ce", s, 0.5) for s in (0, 1)] + [
        record("distill-same", "ce", s, 0.6) for s in (0, 1)
    ]
    for run, value in zip(runs, (0.7, 0.8, 0.9, 0.9), strict=True):
        run["references"]["teacher_ncm"]["value"] = value
    data = drawn("overlap", runs).data
    rows = data[data["method"].isna()]
    assert rows["line"].unique().tolist() == ["teacher NCM"]
    assert rows["share_percent"].tolist() == [0, 100]
    assert rows["mean"].tolist() == pytest.approx([0.75, 0.9])
    assert rows["ci95"].tolist() == pytest.approx([stats.t.ppf(0.975, 1) * stats.sem([0.7, 0.8]), 0])


def test_lines_of_one_seed_have_no_bars() -> None:
    one = drawn("overlap", [record(p, "ce", 0, 0.5) for p in ("distill-cross", "distill-same")])
    assert one.data["ci95"].isna().all()
    assert bars(one.figure) == []
    both = drawn(
        "overlap", [record(p, "ce", s, 0.5 + s / 9) for p in ("distill-cross", "distill-same") for s in (0, 1)]
    )
    assert [len(bar.get_segments()) for bar in bars(both.figure)] == [2, 2]  # of the method and of the reference


def test_overlap_needs_two_positions_under_equal_conditions() -> None:
    runs = [record("distill-cross", method, 0, 0.5) for method in ("ce", "kd")]
    assert drawings("overlap", ResultSet(group_by_method(runs), Store(Path())))[0] == []
    other = [*runs, record("distill-same", "ce", 0, 0.5, dataset="emoji")]
    assert drawings("overlap", ResultSet(group_by_method(other), Store(Path())))[0] == []


def test_shots_separates_ways_and_families() -> None:
    names = ("fewshot-5way1shot", "fewshot-5way5shot", "fewshot-20way1shot", "middleshot-5way1shot")
    runs = [record(name, "ce", 0, 0.5) for name in names]
    assert drawn("shots", runs).name == "shots-fewshot-5way-glyphs"


def test_lines_stay_within_the_frame_and_many_names_do_not_overlap(tmp_path: Path) -> None:
    many = {protocol: methods for protocol, methods in METHODS.items() if protocol.startswith("distill")}
    (drawing,), _ = drawings("overlap", results(records(many), tmp_path))
    (frame,) = drawing.figure.axes
    low, high = frame.get_ylim()
    half = drawing.data["ci95"].fillna(0)
    assert (100 * (drawing.data["mean"] - half)).min() >= low
    assert (100 * (drawing.data["mean"] + half)).max() <= high
    names = sorted(
        (t.get_window_extent() for t in drawing.figure.texts if t.get_text() in set(drawing.data["line"])),
        key=lambda box: box.y0,
    )
    assert len(names) == 18
    for lower, upper in itertools.pairwise(names):
        assert upper.y0 >= lower.y1 - 1


def test_variant_has_a_line_of_its_own_with_a_hollow_marker() -> None:
    runs = [
        record(protocol, "refilled", 0, 0.5, preset=preset)
        for protocol in ("distill-cross", "distill-same")
        for preset in ("quick", "quick+method.margin=0.1")
    ]
    drawing = drawn("overlap", runs)
    methods = drawing.data.dropna(subset="method")
    assert sorted(methods["line"].unique()) == ["refilled", "refilled (margin=0.1)"]
    faces = {line.get_markerfacecolor() for line in drawing.figure.axes[0].lines if line.get_marker() == "*"}
    assert faces == {"#D55E00", "white"}


def test_line_data_have_all_drawn_columns() -> None:
    data = drawn("overlap", RUNS).data
    assert pd.Index(["line", "share_percent", "mean", "ci95", "n_seeds", "protocol", "method"]).isin(data.columns).all()


def test_line_that_ends_early_is_not_joined_to_its_name() -> None:
    runs = [record(protocol, "ce", 0, 0.5) for protocol in ("distill-cross", "distill-same")]
    drawing = drawn("overlap", [*runs, record("distill-cross", "rkd", 0, 0.6)])
    joined = [line.get_color() for line in drawing.figure.artists if len(line.get_xdata()) == 3]
    assert style.look("ce").color in joined
    assert style.look("rkd").color not in joined
    assert "rkd" in [text.get_text() for text in drawing.figure.texts]
