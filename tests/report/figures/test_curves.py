from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmark.report.figures import RenderedFigure, drawings, style
from tests.report.figures.synthetic import record
from tests.report.figures.test_figure import result_set_of


def drawn(*runs: dict[str, Any]) -> RenderedFigure:
    (drawing,), _ = drawings("curves", result_set_of(*runs))
    return drawing


def test_curves_data_are_mean_smallest_and_largest_over_seeds() -> None:
    runs = [record("distill-same", "refilled", s, 0.5) for s in range(3)]
    data = drawn(*runs).data
    assert set(data["term"]) == {"ce", "refilled"}
    assert len(data) == 2 * 20
    for row in data.to_dict("records"):
        values = [r[row["term"]] for run in runs for r in run["history"] if r["step"] == row["step"]]
        assert (row["mean"], row["min"], row["max"]) == pytest.approx((np.mean(values), min(values), max(values)))
        assert row["n_seeds"] == 3
    assert data["step"].is_monotonic_increasing


def test_curves_have_a_panel_per_trained_method_with_stage_boundaries() -> None:
    drawing = drawn(*(record("distill-same", method, 0, 0.5) for method in ("ce", "refilled", "ncm")))
    panels = {frame.get_title(loc="left"): frame for frame in drawing.figure.axes}
    assert set(panels) == {"ce", "refilled"}
    positions = {name: [set(line.get_xdata()) for line in frame.lines] for name, frame in panels.items()}
    vertical = {name: [x for xs in lines if len(xs) == 1 for x in xs] for name, lines in positions.items()}
    last = max(r["step"] for r in record("distill-same", "refilled", 0, 0.5)["history"] if r["stage"] == "embed")
    assert vertical == {"ce": [], "refilled": [last]}
    assert [text.get_text() for text in panels["refilled"].texts] == ["embed", "classify"]


def test_curves_with_negative_terms_have_a_linear_axis() -> None:
    run = record("distill-same", "vid", 0, 0.5)
    for report in run["history"]:
        report["vid"] -= 5
    (frame,) = drawn(run).figure.axes
    assert frame.get_yscale() == "linear"
    (usual,) = drawn(record("distill-same", "vid", 0, 0.5)).figure.axes
    assert usual.get_yscale() == "log"


def test_curves_name_a_term_of_an_earlier_stage_in_its_panel() -> None:
    run = record("distill-same", "refilled", 0, 0.5)
    for report in run["history"]:
        if report["stage"] == "embed":
            report["tuples"] = report.pop("refilled")
    drawing = drawn(run)
    assert "tuples" in [text.get_text() for text in drawing.figure.axes[0].texts]
    assert "tuples" not in [text.get_text() for text in drawing.figure.texts]
    assert "refilled" in [text.get_text() for text in drawing.figure.texts]


@pytest.mark.parametrize(("scale", "shift"), [(1e-5, 0.0), (1e-3, 0.0), (1e3, 0.0), (1e-2, -0.05), (1e-3, 0.02)])
def test_curves_label_values_of_any_size_within_the_figure(scale: float, shift: float) -> None:
    run = record("distill-same", "ce", 0, 0.5)
    for report in run["history"]:
        report["ce"] = scale * report["ce"] + shift
    drawing = drawn(run)
    with style.styled():
        assert drawing.figure.get_tightbbox().x0 >= 0
        drawing.figure.canvas.draw()
        (frame,) = drawing.figure.axes
        labels = [label.get_text() for label in frame.get_yticklabels()]
    assert len(set(labels)) == len(labels)
