from __future__ import annotations

from typing import Any

from benchmark.report.aggregation import group_by_conditions, group_by_method
from tests.report.test_leaderboard import record


def run(method: str, seed: int, preset: str, teacher: int) -> dict[str, Any]:
    training = {"steps": 5} if "training.steps=5" in preset else {}
    config = {"teacher": {"seed": teacher}, "training": training, "protocol": {}, "method": {}, "student": {}}
    return record(method, seed, 0.5, preset=preset, config=config)


def test_group_by_method_counts_a_run_of_both_teacher_seed_designs_in_both() -> None:
    """The run of seed 0 belongs to both designs and is recorded once, under the label that came first."""
    for first in ("quick", "quick+teacher.seed=run"):
        records = [run("ce", 0, first, 0)]
        records += [run("ce", seed, "quick", 0) for seed in (1, 2)]
        records += [run("ce", seed, "quick+teacher.seed=run", seed) for seed in (1, 2)]
        groups = group_by_conditions(group_by_method(records))
        assert [group.conditions.preset for group in groups] == ["quick", "quick+teacher.seed=run"]
        for group in groups:
            (result,) = group.results
            assert list(result.done) == [0, 1, 2]


def test_group_by_method_adds_no_result_for_an_equivalent_label_alone() -> None:
    records = [run("ce", seed, "quick", 0) for seed in (0, 1)]
    records += [run("ce", 3, "quick+teacher.seed=3+training.steps=5", 3)]
    assert [result.preset for result in group_by_method(records)] == ["quick", "quick+teacher.seed=3+training.steps=5"]
    records += [run("ce", 4, "quick+teacher.seed=run+training.steps=5", 4)]
    last = group_by_method(records)[-1]
    assert last.preset == "quick+teacher.seed=run+training.steps=5"
    assert list(last.done) == [3, 4]
