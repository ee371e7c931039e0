from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmark.report.figures import drawings
from benchmark.report.figures.embeddings import purity
from tests.report.figures.synthetic import arrays, record, results


def test_purity_equals_a_naive_share_of_neighbours() -> None:
    rng = np.random.default_rng(0)
    points, labels = rng.normal(size=(30, 4)), rng.integers(0, 3, 30)
    hits = total = 0
    for i in range(30):
        near = sorted((j for j in range(30) if j != i), key=lambda j: float(((points[i] - points[j]) ** 2).sum()))[:5]
        hits += sum(labels[j] == labels[i] for j in near)
        total += 5
    assert purity(points, labels) == pytest.approx(hits / total)
    assert purity(points[:3], np.array([0, 0, 1])) == pytest.approx(2 / 6)


def test_embeddings_show_teacher_and_students_with_the_same_classes(tmp_path: Path) -> None:
    runs = [
        record("distill-cross", method, s, v) for method, v in (("ce", 0.5), ("rkd", 0.6), ("ncm", 0.7)) for s in (0, 1)
    ]
    (drawing,), _ = drawings("embeddings", results(runs, tmp_path))
    data = drawing.data
    assert data["network"].unique().tolist() == ["teacher", "rkd", "ce"]
    assert set(data["seed"]) == {0}
    stored = arrays(runs[0])
    for network, rows in data.groupby("network"):
        assert rows["class"].tolist() == stored["labels"][stored["projected"]].tolist()
        projected = stored["projected_teacher" if network == "teacher" else "projected_student"].astype(float)
        assert rows["purity"].iloc[0] == pytest.approx(purity(projected, rows["class"].to_numpy()))
        assert np.abs(rows[["x", "y"]].to_numpy()).max() == pytest.approx(1)
    looks = [
        [(line.get_color(), line.get_marker(), len(line.get_xdata())) for line in frame.lines]
        for frame in drawing.figure.axes
    ]
    assert looks[0] == looks[1] == looks[2]
    assert len(set(looks[0])) == 6
    titles = [frame.get_title(loc="left") for frame in drawing.figure.axes]
    assert [title.split()[0] for title in titles] == ["teacher", "rkd", "ce"]


def test_embeddings_keep_separated_classes_apart(tmp_path: Path) -> None:
    (drawing,), _ = drawings("embeddings", results([record("distill-cross", "ce", 0, 0.5)], tmp_path))
    teacher = drawing.data[drawing.data["network"] == "teacher"]
    places = teacher[["x", "y"]].to_numpy()
    assert purity(places, teacher["class"].to_numpy()) > 0.9


def test_embeddings_draw_nothing_for_records_without_projections() -> None:
    from tests.report.figures.test_figure import result_set_of

    assert drawings("embeddings", result_set_of(record("distill-cross", "ce", 0, 0.5)))[0] == []
