from __future__ import annotations

from typing import Any

from benchmark.report.aggregation import group_by_conditions, group_by_method
from tests.report.test_leaderboard import record


def run(method: str, seed: int, preset: str, teacher: int) -> dict[str, Any]:
    return record(method, seed, 0.5, preset=preset, config={"teacher": {"seed": teacher}})


def test_teachers_that_follow_the_seed_make_one_pool_beside_the_one_teachers() -> None:
    """The run of seed 0 belongs to both designs and is recorded once, under the label of whichever came first."""
    for first in ("quick", "quick+teacher.seed=run"):
        records = [run("ce", 0, first, 0)]
        records += [run("ce", seed, "quick", 0) for seed in (1, 2)]
        records += [run("ce", seed, "quick+teacher.seed=run", seed) for seed in (1, 2)]
        pools = group_by_conditions(group_by_method(records))
        assert [pool.conditions.preset for pool in pools] == ["quick", "quick+teacher.seed=run"]
        for pool in pools:
            (cell,) = pool.complete
            assert list(cell.done) == [0, 1, 2]


def test_a_run_makes_no_pool_by_another_name() -> None:
    records = [run("ce", seed, "quick", 0) for seed in (0, 1)]
    records += [run("ce", 3, "quick+teacher.seed=3+training.steps=5", 3)]
    assert [cell.preset for cell in group_by_method(records)] == ["quick", "quick+teacher.seed=3+training.steps=5"]
    records += [run("ce", 4, "quick+teacher.seed=run+training.steps=5", 4)]
    own = group_by_method(records)[-1]
    assert own.preset == "quick+teacher.seed=run+training.steps=5"
    assert list(own.done) == [3, 4]
