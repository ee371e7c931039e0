from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmark.records.store import Store
from benchmark.report.aggregation import group_by_method
from benchmark.report.figures import ResultSet, drawings
from benchmark.report.figures.confusion import confusion_shares
from tests.report.figures.synthetic import record
from tests.report.figures.test_figure import result_set_of

LABELS = np.array([0, 0, 0, 0, 1, 1])


def test_shares_are_those_of_a_loop() -> None:
    predicted = np.array([0, 0, 1, 2, 1, 0])
    shares = confusion_shares(LABELS, predicted, 3)
    for true in range(2):
        for other in range(3):
            images = [p for label, p in zip(LABELS, predicted, strict=True) if label == true]
            assert shares[true, other] == images.count(other) / len(images)
    assert np.isnan(shares[2]).all(), "no image of class 2"


@pytest.mark.parametrize("protocol", ["distill-cross", "incremental-1step-5exemplars"])
def test_confusion_has_a_panel_per_method_with_means_over_seeds(tmp_path: Path, protocol: str) -> None:
    store, runs = Store(tmp_path), []
    for method, predictions in (("ce", [[0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 1]]), ("rkd", [[0] * 6, [0] * 6])):
        for seed, predicted in enumerate(predictions):
            run = record(protocol, method, seed, float(np.mean(predicted == LABELS)))
            arrays = {"labels": LABELS, "predicted_student": np.array(predicted)}
            runs.append(run | {"arrays": store.save(run, arrays).with_suffix(".npz").name})
    (drawing,), _ = drawings("confusion", ResultSet(group_by_method(runs), store))
    assert [axes.get_title(loc="left") for axes in drawing.figure.axes] == ["ce  81 %", "rkd  50 %"]
    shares = drawing.data.set_index(["network", "class", "predicted"])["share"]
    assert shares["ce", 0, 1] == pytest.approx((1 / 4 + 2 / 4) / 2)
    assert shares["ce", 1, 1] == 1
    assert ("rkd", 1, 1) not in shares


def test_accuracy_stands_beside_chance_and_the_nearest_mean() -> None:
    runs = [record("distill-cross", m, s, v + s / 50) for m, v in (("ce", 0.6), ("rkd", 0.7)) for s in range(3)]
    (drawing,), _ = drawings("accuracy", result_set_of(*runs))
    assert drawing.name == "accuracy-distill-cross-glyphs"
    rows = drawing.data.set_index("label")
    assert rows.index.tolist() == ["rkd", "ce", "chance", "nearest mean on teacher"]
    assert rows.loc["chance", "mean"] == pytest.approx(0.01)
    assert rows.loc["rkd", "mean"] == pytest.approx(0.72)
    labels = [label.get_text() for label in drawing.figure.axes[0].get_yticklabels()]
    assert labels == ["nearest mean on teacher", "rkd", "ce", "chance"]
