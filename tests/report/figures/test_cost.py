from __future__ import annotations

from typing import Any

import pytest
from scipy import stats

from benchmark.report.figures import RenderedFigure, drawings
from tests.report.figures.synthetic import record
from tests.report.figures.test_figure import result_set_of


def run(method: str, seed: int, seconds: float, **environment: Any) -> dict[str, Any]:
    changed = record("distill-same", method, seed, 0.5 + seed / 50)
    changed["student_facts"]["seconds"] = seconds
    changed["environment"] |= environment
    return changed


def drawn(*runs: dict[str, Any]) -> RenderedFigure:
    (drawing,), _ = drawings("cost", result_set_of(*runs))
    return drawing


def test_cost_data_are_training_seconds_of_the_student() -> None:
    data = drawn(run("kd", 0, 10), run("kd", 1, 14), run("ce", 0, 9)).data.set_index("label")
    assert data.loc["kd", "seconds"] == pytest.approx(12)
    assert data.loc["kd", "seconds_ci95"] == pytest.approx(stats.t.ppf(0.975, 1) * stats.sem([10, 14]))
    assert data.loc["kd", "mean"] == pytest.approx(0.51)
    assert data.loc["ce", ["seconds_ci95", "ci95"]].isna().all()


def test_cost_axis_is_logarithmic_for_a_wide_range() -> None:
    (near,) = drawn(run("kd", 0, 10), run("ce", 0, 20)).figure.axes
    assert near.get_xscale() == "linear"
    (far,) = drawn(run("kd", 0, 10), run("kd", 1, 30), run("ncm", 0, 0.1, gpu=None)).figure.axes
    assert far.get_xscale() == "log"
    # the bar of kd reaches below 0
    assert 0.03 < far.get_xlim()[0] < 0.1


def test_cost_axis_names_the_machines() -> None:
    def label(*runs: dict[str, Any]) -> str:
        return str(drawn(*runs).figure.axes[0].get_xlabel())

    assert label(run("kd", 0, 10)) == "training of the student (s), on AMD EPYC, 2 threads"
    gpu = run("ce", 0, 2, device="cuda", gpu="NVIDIA A100")
    assert label(run("kd", 0, 10, threads=1), gpu).endswith("on AMD EPYC, 1 thread and on NVIDIA A100")
