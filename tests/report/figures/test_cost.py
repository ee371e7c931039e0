from __future__ import annotations

from typing import Any

import pytest
from scipy import stats

from benchmark.report.figures import RenderedFigure, drawings
from tests.report.figures.synthetic import record
from tests.report.figures.test_figure import made_of


def run(method: str, seed: int, seconds: float, **where: Any) -> dict[str, Any]:
    made = record("distill-same", method, seed, 0.5 + seed / 50)
    made["student_facts"]["seconds"] = seconds
    made["environment"] |= where
    return made


def drawn(*made: dict[str, Any]) -> RenderedFigure:
    (drawing,), _ = drawings("cost", made_of(*made))
    return drawing


def test_seconds_are_those_of_the_students_training() -> None:
    data = drawn(run("kd", 0, 10), run("kd", 1, 14), run("ce", 0, 9)).data.set_index("label")
    assert data.loc["kd", "seconds"] == pytest.approx(12)
    assert data.loc["kd", "seconds_ci95"] == pytest.approx(stats.t.ppf(0.975, 1) * stats.sem([10, 14]))
    assert data.loc["kd", "mean"] == pytest.approx(0.51)
    assert data.loc["ce", ["seconds_ci95", "ci95"]].isna().all()


def test_the_axis_is_logarithmic_where_the_range_asks_for_it() -> None:
    (near,) = drawn(run("kd", 0, 10), run("ce", 0, 20)).figure.axes
    assert near.get_xscale() == "linear"
    (far,) = drawn(run("kd", 0, 10), run("kd", 1, 30), run("ncm", 0, 0.1, gpu=None)).figure.axes
    assert far.get_xscale() == "log"
    # the bar of kd reaches below 0
    assert 0.03 < far.get_xlim()[0] < 0.1


def test_the_axis_names_the_machines() -> None:
    def label(*made: dict[str, Any]) -> str:
        return str(drawn(*made).figure.axes[0].get_xlabel())

    assert label(run("kd", 0, 10)) == "training of the student (s), on AMD EPYC, 2 threads"
    gpu = run("ce", 0, 2, device="cuda", gpu="NVIDIA A100")
    assert label(run("kd", 0, 10, threads=1), gpu).endswith("on AMD EPYC, 1 thread and on NVIDIA A100")
