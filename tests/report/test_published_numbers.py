from __future__ import annotations

import pytest

from benchmark.report.published_numbers import beside_measured, published_for, published_numbers
from tests.report.test_leaderboard import record

RECIPE = "refilled-cvpr20-cifar100"
PAIR = {"protocol": "distill-same", "dataset": "cifar100", "teacher": "wrn-40-2", "backbone": "wrn-16-2"}
KEY = "distill-same", "wrn-40-2", "wrn-16-2", "refilled-cvpr20"


def test_beside_measured_pairs_measured_and_published_numbers() -> None:
    records = [record("refilled-cvpr20", seed, 0.7 + seed / 50, preset=RECIPE, **PAIR) for seed in range(3)]
    records += [
        record("refilled-cvpr20", 3, 0.1, preset=f"{RECIPE}+training.steps=3", **PAIR),
        record("refilled-cvpr20", 0, 0.2, preset="gkd-cifar100", **PAIR),
        record("kd", 0, 0.3, preset=RECIPE, **PAIR, provenance="reported-in-paper"),
        record("crd", 0, 0.4, preset=RECIPE, **PAIR),
    ]
    rows = {row.key: row for row in beside_measured("refilled-cvpr20-cifar100", records)}
    assert len(rows) == 37
    row = rows[KEY]
    assert [number.value for number in row.published] == [pytest.approx(0.7401)]
    assert row.measured is not None
    assert (row.measured.n, row.measured.mean) == (3, pytest.approx(0.72))
    assert rows[*KEY[:3], "crd"].published == ()
    assert [number.value for number in rows["distill-same", "wrn-40-2", "wrn-16-1", "ce"].published] == [
        pytest.approx(0.6544), pytest.approx(0.663)
    ]  # fmt: skip
    assert [key for key, row in rows.items() if row.measured] == [KEY, (*KEY[:3], "crd")]


def test_published_numbers_of_a_recipe_without_any_are_empty() -> None:
    assert published_numbers("gkd-cifar100") == {}
    assert beside_measured("gkd-cifar100", []) == []


def test_published_for_returns_number_and_changed_settings() -> None:
    (number,), changed = published_for(record("refilled-cvpr20", 0, 0.5, preset=f"{RECIPE}+training.lr=0.3", **PAIR))
    assert number.value == pytest.approx(0.7401)
    assert changed == ["training.lr=0.3"]
    assert published_for(record("refilled-cvpr20", 0, 0.5, preset="gkd-cifar100", **PAIR)) == ((), [])


def test_a_run_without_a_teacher_is_beside_the_numbers_under_every_teacher() -> None:
    student = {**PAIR, "teacher": "none", "backbone": "wrn-16-1"}
    alone = record("ce", 0, 0.5, preset=RECIPE, **student)
    measured = {row.key: row.measured for row in beside_measured(RECIPE, [alone]) if row.measured}
    assert list(measured) == [("distill-same", "wrn-40-2", "wrn-16-1", "ce")]
    assert [number.value for number in published_for(alone)[0]] == [pytest.approx(0.6544), pytest.approx(0.663)]
