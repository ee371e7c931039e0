from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from benchmark.report.figures import drawings
from tests.report.figures.synthetic import record
from tests.report.figures.test_figure import result_set_of
from tests.report.figures.test_lines import bars

RUNS = [
    record("fewshot-5way1shot", m, s, v + s / 50)
    for m, v in (("ce", 0.6), ("rkd", 0.7), ("ncm", 0.65))
    for s in (0, 1, 2)
]


def test_fewshot_data_have_every_interval() -> None:
    (drawing,), _ = drawings("fewshot", result_set_of(*RUNS))
    assert drawing.name == "fewshot-5way1shot-glyphs"
    rows = drawing.data.set_index("label")
    assert rows.index.tolist() == ["rkd", "ncm†", "ce", "teacher", "raw pixels"]
    runs = [run for run in RUNS if run["method"] == "rkd"]
    values = [run["value"] for run in runs]
    halves = {kind: [run["intervals"][kind]["half_width"] for run in runs] for kind in ("episode", "class")}
    row = rows.loc["rkd"]
    assert row["mean"] == pytest.approx(np.mean(values))
    assert row["ci95"] == pytest.approx(stats.t.ppf(0.975, 2) * stats.sem(values))
    assert row["episode_ci95"] == pytest.approx(math.sqrt(sum(h * h for h in halves["episode"])) / 3)
    assert row["class_ci95"] == pytest.approx(sum(halves["class"]) / 3)
    assert rows.loc["teacher", "mean"] == pytest.approx(0.85)
    assert rows.loc["raw pixels", "mean"] == pytest.approx(0.62)
    assert rows.loc[["teacher", "raw pixels"], "method"].isna().all()


def test_fewshot_dots_show_the_data_and_bars_need_several_seeds() -> None:
    (drawing,), _ = drawings("fewshot", result_set_of(*RUNS, record("fewshot-5way1shot", "kd", 0, 0.68)))
    (frame,) = drawing.figure.axes
    labels = [label.get_text() for label in frame.get_yticklabels()]
    assert labels == ["teacher", "rkd", "kd", "ncm†", "ce", "raw pixels"]
    dots = {
        round(line.get_ydata()[0]): line.get_xdata()[0]
        for line in frame.lines
        if line.get_marker() not in ("None", "|")
    }
    for label, row in drawing.data.set_index("label").iterrows():
        assert dots[labels.index(str(label))] == pytest.approx(100 * row["mean"])
    segments = {round(bar.get_segments()[0][0][1]) for bar in bars(drawing.figure)}
    assert labels.index("kd") not in segments
    assert labels.index("rkd") in segments
