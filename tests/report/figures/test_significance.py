from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from scipy import stats

from benchmark.report.figures import drawings
from benchmark.report.figures.significance import DIFFERENT, UNDECIDED
from tests.report.figures.synthetic import record
from tests.report.figures.test_figure import result_set_of

VALUES = {"ce": (0.60, 0.61, 0.62), "kd": (0.65, 0.66, 0.671), "rkd": (0.60, 0.63, 0.605)}
RUNS = [record("distill-same", method, s, v) for method, values in VALUES.items() for s, v in enumerate(values)]


def test_significance_p_values_are_paired_t_with_holms_correction() -> None:
    (drawing,), _ = drawings("significance", result_set_of(*RUNS))
    rows = {(row["a"], row["b"]): row for row in drawing.data.to_dict("records")}
    assert set(rows) == {("kd", "rkd"), ("kd", "ce"), ("rkd", "ce")}
    plain = {pair: stats.ttest_rel(VALUES[pair[0]], VALUES[pair[1]]).pvalue for pair in rows}
    largest = 0.0
    for rank, pair in enumerate(sorted(plain, key=lambda pair: plain[pair])):
        largest = max(largest, min(1, (3 - rank) * plain[pair]))
        row = rows[pair]
        assert row["p"] == pytest.approx(plain[pair])
        assert row["holm_p"] == pytest.approx(largest)
        assert row["different"] == (largest < 0.05)
        assert row["difference"] == pytest.approx(np.mean(VALUES[pair[0]]) - np.mean(VALUES[pair[1]]))
    assert rows["kd", "ce"]["different"]
    assert not rows["rkd", "ce"]["different"]


def test_significance_fills_mark_different_pairs() -> None:
    (drawing,), _ = drawings("significance", result_set_of(*RUNS))
    (frame,) = drawing.figure.axes
    names = [label.get_text() for label in frame.get_yticklabels()]
    fills = {}
    for patch in frame.patches:
        assert isinstance(patch, Rectangle)
        fills[round(patch.get_x() + 0.5), round(patch.get_y() + 0.5)] = patch.get_facecolor()
    texts = {(round(text.get_position()[0]), round(text.get_position()[1])): text.get_text() for text in frame.texts}
    for row in drawing.data.to_dict("records"):
        i, j = names.index(row["a"]), names.index(row["b"])
        assert i < j
        assert (
            fills[i, j]
            == fills[j, i]
            == Rectangle((0, 0), 1, 1, facecolor=DIFFERENT if row["different"] else UNDECIDED).get_facecolor()
        )
        assert texts[j, i] == f"{100 * row['difference']:+.1f}"
        assert texts[i, j] == ("<.001" if row["holm_p"] < 0.001 else f"{row['holm_p']:.3f}"[1:])


def test_significance_compares_pairs_on_common_seeds() -> None:
    extra = [record("distill-same", "kd", 3, 0.1), record("distill-same", "pkt", 0, 0.9)]
    (drawing,), _ = drawings("significance", result_set_of(*RUNS, *extra))
    rows = {frozenset((row["a"], row["b"])): row for row in drawing.data.to_dict("records")}
    assert set(rows) == {frozenset(pair) for pair in itertools.combinations(VALUES, 2)}
    row = rows[frozenset(("kd", "ce"))]
    assert row["n_seeds"] == 3
    assert abs(row["difference"]) == pytest.approx(np.mean(VALUES["kd"]) - np.mean(VALUES["ce"]))


def test_significance_of_equal_differences_has_no_p() -> None:
    runs = [record("distill-same", method, s, v + s / 8) for method, v in (("ce", 0.25), ("kd", 0.5)) for s in (0, 1)]
    (drawing,), _ = drawings("significance", result_set_of(*runs))
    (row,) = drawing.data.to_dict("records")
    assert np.isnan(row["holm_p"] if row["holm_p"] is not None else np.nan)
    assert not row["different"]


def test_significance_draws_nothing_for_one_seed() -> None:
    runs = [record("distill-same", method, 0, 0.5) for method in ("ce", "kd")]
    assert drawings("significance", result_set_of(*runs))[0] == []


def test_significance_numbers_fit_into_their_cells() -> None:
    """31 methods, as many as incremental learning has; p < .001 is the widest number."""
    jitter = np.random.default_rng(0).normal(0, 1e-4, (31, 5))
    many = [
        record("distill-same", f"method{m:02}", seed, 0.1 + 0.02 * m + jitter[m, seed])
        for m in range(31)
        for seed in range(5)
    ]
    (drawing,), _ = drawings("significance", result_set_of(*many))
    (frame,) = drawing.figure.axes
    square = frame.get_window_extent().width / 31
    assert "<.001" in {text.get_text() for text in frame.texts}
    assert all(text.get_window_extent().width < square for text in frame.texts)
