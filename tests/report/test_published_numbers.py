from __future__ import annotations

import pytest

from benchmark.report.published_numbers import beside_measured, published_for, published_numbers
from tests.report.test_leaderboard import record

PAIR = {"protocol": "distill-same", "dataset": "cifar100", "teacher": "wrn-40-2", "backbone": "wrn-16-2"}
KEY = "distill-same", "wrn-40-2", "wrn-16-2", "refilled"


def test_beside_measured_pairs_measured_and_published_numbers() -> None:
    records = [record("refilled", seed, 0.7 + seed / 50, preset="refilled-cifar100", **PAIR) for seed in range(3)]
    records += [
        record("refilled", 3, 0.1, preset="refilled-cifar100+training.steps=3", **PAIR),
        record("refilled", 0, 0.2, preset="gkd-cifar100", **PAIR),
        record("kd", 0, 0.3, preset="refilled-cifar100", **PAIR, provenance="reported-in-paper"),
        record("crd", 0, 0.4, preset="refilled-cifar100", **PAIR),
    ]
    rows = {row.key: row for row in beside_measured("refilled-cifar100", records)}
    assert len(rows) == 37
    row = rows[KEY]
    assert row.published is not None
    assert row.published.value == pytest.approx(0.7401)
    assert row.measured is not None
    assert (row.measured.n, row.measured.mean) == (3, pytest.approx(0.72))
    assert rows[*KEY[:3], "crd"].published is None
    assert [key for key, row in rows.items() if row.measured] == [KEY, (*KEY[:3], "crd")]


def test_published_numbers_of_a_recipe_without_any_are_empty() -> None:
    assert published_numbers("gkd-cifar100") == {}
    assert beside_measured("gkd-cifar100", []) == []


def test_published_for_returns_number_and_changed_settings() -> None:
    number, changed = published_for(record("refilled", 0, 0.5, preset="refilled-cifar100+training.lr=0.3", **PAIR))
    assert number is not None
    assert number.value == pytest.approx(0.7401)
    assert changed == ["training.lr=0.3"]
    assert published_for(record("refilled", 0, 0.5, preset="gkd-cifar100", **PAIR)) == (None, [])
