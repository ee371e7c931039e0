from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmark.report.figures import drawings
from benchmark.report.figures.weights import auc
from tests.report.figures.synthetic import arrays, record, results


def naive_auc(weights: np.ndarray, known: np.ndarray) -> float:
    wins = 0.0
    for one in weights[known]:
        for other in weights[~known]:
            wins += 1 if one > other else 0.5 if one == other else 0
    return wins / (known.sum() * (~known).sum())


def test_auc_equals_the_naive_share_of_ordered_pairs() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        weights = rng.integers(0, 8, 40) / 8  # with ties
        known = rng.random(40) < 0.3
        assert auc(weights, known) == pytest.approx(naive_auc(weights, known))
    known = np.array([True, True, False])
    assert auc(np.array([0.9, 0.8, 0.7]), known) == 1
    assert auc(np.array([0.7, 0.7, 0.7]), known) == 0.5


def test_weights_data_count_every_seed_once(tmp_path: Path) -> None:
    runs = [record("distill-overlap60", method, s, 0.5) for method in ("ce", "kd") for s in (0, 1)]
    (drawing,), _ = drawings("weights", results(runs, tmp_path))
    assert drawing.name == "weights-glyphs"
    stored = [arrays(run) for run in runs[:2]]
    weights = np.concatenate([part["train_weights"] for part in stored])
    known = np.concatenate([part["train_known"] for part in stored])
    for name, values in (("known", weights[known]), ("unknown", weights[~known])):
        rows = drawing.data[drawing.data["class"] == name]
        assert set(rows["images"]) == {len(values)}
        assert rows["share"].sum() == pytest.approx(1)
        for row in rows.to_dict("records"):
            last = row["high"] == rows["high"].max()
            inside = sum(row["low"] <= w < row["high"] or (last and w == row["high"]) for w in values.astype(float))
            assert row["share"] == pytest.approx(inside / len(values))
    areas = [naive_auc(part["train_weights"], part["train_known"]) for part in stored]
    assert drawing.data["auc"].iloc[0] == pytest.approx(np.mean(areas))
    assert drawing.data["auc_ci95"].iloc[0] == pytest.approx(stats.t.ppf(0.975, 1) * stats.sem(areas))


def test_weights_have_a_panel_per_share_of_known_classes(tmp_path: Path) -> None:
    runs = [record(f"distill-overlap{share}", "ce", 0, 0.5) for share in (100, 60, 5)] + [
        record("distill-same", "ce", 0, 0.5)
    ]
    (drawing,), _ = drawings("weights", results(runs, tmp_path))
    titles = [frame.get_title(loc="left").split("\n")[0] for frame in drawing.figure.axes]
    assert titles == ["5 % known classes", "60 % known classes", "100 % known classes"]
    assert drawing.data["auc_ci95"].isna().all()


def test_weights_draw_nothing_for_runs_without_weights(tmp_path: Path) -> None:
    assert drawings("weights", results([record("distill-cross", "ce", 0, 0.5)], tmp_path))[0] == []
