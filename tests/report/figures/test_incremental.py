from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmark.report.figures import RenderedFigure, drawings
from tests.report.figures.synthetic import METHODS, record, records, results
from tests.report.figures.test_figure import result_set_of

PROTOCOL = "incremental-1step-5exemplars"


def at(method: str, old: float, new: float, seed: int = 0) -> dict[str, Any]:
    run = record(PROTOCOL, method, seed, (old + new) / 2)
    for name, value in (("old", old), ("new", new), ("harmonic", 2 * old * new / (old + new))):
        run["references"][name]["value"] = value
    return run


def drawn(*runs: dict[str, Any]) -> RenderedFigure:
    (drawing,), _ = drawings("incremental", result_set_of(*runs))
    return drawing


def test_incremental_data_are_means_and_intervals_over_seeds() -> None:
    runs = [at("lucir", 0.8 + s / 40, 0.9 - s / 80, s) for s in range(3)] + [at("ce", 0.6, 0.9)]
    data = drawn(*runs).data.set_index("label")
    assert data.index.tolist() == ["lucir", "ce", "teacher"]
    for name in ("old", "new", "harmonic"):
        values = [run["references"][name]["value"] for run in runs[:3]]
        assert data.loc["lucir", name] == pytest.approx(np.mean(values))
        assert data.loc["lucir", f"{name}_ci95"] == pytest.approx(stats.t.ppf(0.975, 2) * stats.sem(values))
    assert data.loc["ce", ["old_ci95", "new_ci95"]].isna().all()
    assert data.loc["teacher", "old"] == pytest.approx(0.93)


def test_incremental_dots_have_bars_for_several_seeds_only() -> None:
    def segments(drawing: RenderedFigure) -> int:
        return sum(line.get_linewidth() == 0.5 and len(line.get_xdata()) == 2 for line in drawing.figure.axes[0].lines)

    assert segments(drawn(at("ce", 0.6, 0.9))) == 0
    assert segments(drawn(at("ce", 0.6, 0.9), at("ce", 0.65, 0.85, 1))) == 2


def test_incremental_names_of_many_methods_do_not_overlap(tmp_path: Path) -> None:
    crowd = {PROTOCOL: METHODS[PROTOCOL]}
    drawing = drawings("incremental", results(records(crowd), tmp_path))[0][0]
    names = set(drawing.data["label"]) - {"teacher"}
    boxes = [text.get_window_extent() for text in drawing.figure.texts if text.get_text() in names]
    assert len(boxes) == len(METHODS[PROTOCOL]) == 25
    for a, b in itertools.combinations(boxes, 2):
        assert min(a.x1, b.x1) <= max(a.x0, b.x0) + 1 or min(a.y1, b.y1) <= max(a.y0, b.y0) + 1
    (frame,) = drawing.figure.axes
    for old, new in drawing.data.set_index("label").loc[sorted(names), ["old", "new"]].to_numpy():
        x, y = frame.transData.transform((100 * old, 100 * new))
        assert not any(box.x0 < x < box.x1 and box.y0 < y < box.y1 for box in boxes)


def test_incremental_figure_of_crowded_methods_has_a_key() -> None:
    heap = [at(method, 0.8 + i % 5 / 1e4, 0.8 + i // 5 / 1e4) for i, method in enumerate(METHODS[PROTOCOL][1:])]
    drawing = drawn(at(METHODS[PROTOCOL][0], 0.65, 0.95), *heap)
    texts = [text.get_text() for text in drawing.figure.texts]
    assert set(METHODS[PROTOCOL]) <= set(texts)
    assert "harmonic mean (%)" in texts
    assert texts.count("80.0") >= 4
    frame = drawing.figure.axes[0].get_window_extent()
    for text in drawing.figure.texts:
        if text.get_text() in METHODS[PROTOCOL]:
            assert text.get_window_extent().x0 > frame.x1


def test_incremental_contours_have_equal_harmonic_mean() -> None:
    (frame,) = drawn(at("ce", 0.5, 0.9), at("lucir", 0.9, 0.7), at("kd", 0.6, 0.6)).figure.axes
    curves = [line for line in frame.lines if len(line.get_xdata()) > 100]
    assert len(curves) > 3
    levels = set()
    for curve in curves:
        old, new = curve.get_data()
        harmonic = 2 / (1 / np.asarray(old) + 1 / np.asarray(new))
        np.testing.assert_allclose(harmonic, harmonic[0])
        levels.add(round(float(harmonic[0]), 6))
    shown = {float(text.get_text()) for text in frame.texts if text.get_text().isdigit()}
    assert shown
    assert shown <= levels


def test_incremental_footnote_names_a_method_far_below_all_others() -> None:
    near = [at(method, 0.75 + i / 50, 0.9) for i, method in enumerate(("ce", "kd", "lucir", "wa", "eeil"))]
    drawing = drawn(*near, at("finetune", 0.001, 0.92))
    assert drawing.figure.axes[0].get_xlim()[0] > 60
    assert any("beyond the frame: finetune (old 0.1, new 92.0)" in text.get_text() for text in drawing.figure.texts)
    assert "finetune" in set(drawing.data["label"])
    spread = drawn(*near, at("finetune", 0.6, 0.92))
    assert spread.figure.axes[0].get_xlim()[0] < 60
