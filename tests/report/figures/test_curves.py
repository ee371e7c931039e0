from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmark.report.figures import RenderedFigure, drawings, style
from tests.report.figures.synthetic import record
from tests.report.figures.test_figure import made_of


def drawn(*made: dict[str, Any]) -> RenderedFigure:
    (drawing,), _ = drawings("curves", made_of(*made))
    return drawing


def test_data_are_mean_least_and_largest_over_seeds() -> None:
    made = [record("distill-same", "refilled", s, 0.5) for s in range(3)]
    data = drawn(*made).data
    assert set(data["term"]) == {"ce", "refilled"}
    assert len(data) == 2 * 20
    for row in data.to_dict("records"):
        own = [r[row["term"]] for run in made for r in run["history"] if r["step"] == row["step"]]
        assert (row["mean"], row["min"], row["max"]) == pytest.approx((np.mean(own), min(own), max(own)))
        assert row["n_seeds"] == 3
    assert data["step"].is_monotonic_increasing


def test_a_panel_per_method_that_trains_with_the_boundaries_of_its_stages() -> None:
    drawing = drawn(*(record("distill-same", method, 0, 0.5) for method in ("ce", "refilled", "ncm")))
    panels = {frame.get_title(loc="left"): frame for frame in drawing.figure.axes}
    assert set(panels) == {"ce", "refilled"}
    places = {name: [set(line.get_xdata()) for line in frame.lines] for name, frame in panels.items()}
    upright = {name: [x for xs in found if len(xs) == 1 for x in xs] for name, found in places.items()}
    last = max(r["step"] for r in record("distill-same", "refilled", 0, 0.5)["history"] if r["stage"] == "embed")
    assert upright == {"ce": [], "refilled": [last]}
    assert [text.get_text() for text in panels["refilled"].texts] == ["embed", "classify"]


def test_terms_below_zero_are_drawn_too() -> None:
    made = record("distill-same", "vid", 0, 0.5)
    for report in made["history"]:
        report["vid"] -= 5
    (frame,) = drawn(made).figure.axes
    assert frame.get_yscale() == "linear"
    (usual,) = drawn(record("distill-same", "vid", 0, 0.5)).figure.axes
    assert usual.get_yscale() == "log"


def test_a_term_of_an_earlier_stage_is_named_in_its_panel() -> None:
    made = record("distill-same", "refilled", 0, 0.5)
    for report in made["history"]:
        if report["stage"] == "embed":
            report["tuples"] = report.pop("refilled")
    drawing = drawn(made)
    assert "tuples" in [text.get_text() for text in drawing.figure.axes[0].texts]
    assert "tuples" not in [text.get_text() for text in drawing.figure.texts]
    assert "refilled" in [text.get_text() for text in drawing.figure.texts]


@pytest.mark.parametrize(("scale", "shift"), [(1e-5, 0.0), (1e-3, 0.0), (1e3, 0.0), (1e-2, -0.05), (1e-3, 0.02)])
def test_values_of_any_size_are_labelled_within_the_figure(scale: float, shift: float) -> None:
    made = record("distill-same", "ce", 0, 0.5)
    for report in made["history"]:
        report["ce"] = scale * report["ce"] + shift
    drawing = drawn(made)
    with style.styled():
        assert drawing.figure.get_tightbbox().x0 >= 0
        drawing.figure.canvas.draw()
        (frame,) = drawing.figure.axes
        labels = [label.get_text() for label in frame.get_yticklabels()]
    assert len(set(labels)) == len(labels)
