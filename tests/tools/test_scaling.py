"""The script that measures how cost grows: its fit on known functions, its orders, and a small trial of all of it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

import benchmark.losses

from ..scripts import load

scaling = load("tools/scaling")

KNOWN: dict[str, tuple[Callable[[float], float], float]] = {
    "linear": (lambda n: 3 * n, 1),
    "linear beside a fixed part": (lambda n: 10 + 3 * n, 1),
    "square": (lambda n: n**2, 2),
    "square beside a fixed and a linear part": (lambda n: 10 + n / 2 + n**2, 2),
    "cube": (lambda n: n**3, 3),
    "root": (lambda n: 10 * n**0.5, 0.5),
}


@pytest.mark.parametrize("axis", scaling.SIZES)
@pytest.mark.parametrize("name", KNOWN)
def test_fit_exponent_finds_that_of_a_known_function(name: str, axis: str) -> None:
    cost, exponent = KNOWN[name]
    sizes = scaling.SIZES[axis]
    assert scaling.fit_exponent(sizes, [cost(n) for n in sizes]) == pytest.approx(exponent, abs=0.25)


def test_fit_exponent_of_a_cost_that_does_not_grow_is_0() -> None:
    sizes = scaling.SIZES["classes"]
    assert scaling.fit_exponent(sizes, [5.0, 5.1, 4.9, 5.2, 5.1]) == 0
    assert scaling.fit_exponent(sizes, [1e-5 * n for n in sizes], least=1.0) == 0


def points(cost: Callable[[float], float], axis: str, part: str, bytes_: float = 1.0) -> list[object]:
    return [scaling.Point(axis, part, n, 1e-3 * cost(n), bytes_) for n in scaling.SIZES[axis]]


@pytest.mark.parametrize("axis", scaling.SIZES)
def test_growths_tell_a_quadratic_cost(axis: str) -> None:
    seconds, memory = scaling.growths(points(lambda n: n**2, axis, "some part"))
    assert not seconds.is_within
    assert memory.is_within
    assert "**too much**" in scaling.markdown([seconds])
    assert "**too much**" not in scaling.markdown([memory])
    assert all(growth.is_within for growth in scaling.growths(points(lambda n: 7 * n, axis, "some part")))


def test_growths_compare_a_loss_with_its_documented_order() -> None:
    seconds, _ = scaling.growths(points(lambda n: n**2 * math.log(n), "loss", "refilled"))
    assert seconds.is_within
    assert 2.1 < seconds.documented < 2.3
    assert not scaling.growths(points(lambda n: n**3.2, "loss", "refilled"))[0].is_within
    assert scaling.growths(points(lambda n: n**3, "batch", "step of rkd"))[0].is_within
    assert not scaling.growths(points(lambda n: n**2, "batch", "step of kd"))[0].is_within


@pytest.mark.parametrize("name", scaling.LOSSES)
def test_orders_above_linear_are_those_of_the_docstrings(name: str) -> None:
    loss = scaling.LOSSES[name]
    text = " ".join((getattr(benchmark.losses, loss.name).__doc__ or "").split())
    for order in {loss.time, loss.memory} - {"n"}:
        assert f"O({order.replace('n', 'B')})" in text, (name, order)


def test_jobs_give_the_large_sets_a_process_each() -> None:
    made = scaling.jobs(["images", "loss"], scaling.SIZES)
    assert [job.sizes for job in made if job.axis == "images"] == [(size,) for size in scaling.SIZES["images"]]
    assert {job.subject for job in made if job.axis == "loss"} == set(scaling.LOSSES)


@pytest.mark.parametrize(
    ("axis", "subject"), [("images", ""), ("batch", "refilled"), ("batch", "crd"), ("loss", "rkd"), ("seeds", "")]
)
def test_measure_yields_every_part(axis: str, subject: str) -> None:
    size = scaling.SMALL[axis][0]
    measured = list(scaling.measure(scaling.Job(axis, subject, (size,))))
    assert measured
    assert all(point.seconds > 0 and point.bytes >= 0 and point.size == size for point in measured)
    assert len({point.part for point in measured}) == len(measured)


def test_a_trial_writes_json_and_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert scaling.main(["--small", "--axes", "students", "--out", str(tmp_path)]) == 0
    table = (tmp_path / "scaling.md").read_text(encoding="utf-8")
    assert "| step of students that train together | ms |" in table
    assert table in capsys.readouterr().out
    content = json.loads((tmp_path / "scaling.json").read_text(encoding="utf-8"))
    assert [growth["cost"] for growth in content["growths"]] == ["seconds", "bytes"]
    assert content["growths"][0]["sizes"] == list(scaling.SMALL["students"])
    assert content["left_out"] == []


def test_a_limit_leaves_jobs_out_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert scaling.main(["--small", "--axes", "students", "--limit", "-1", "--out", str(tmp_path)]) == 0
    assert "not measured for lack of time" in capsys.readouterr().out
    assert json.loads((tmp_path / "scaling.json").read_text(encoding="utf-8"))["left_out"][0]["axis"] == "students"
