from __future__ import annotations

from typing import Any

from benchmark.report.aggregation import group_by_conditions, group_by_method, shows_teacher
from benchmark.report.references import reference_intervals, setting_facts
from tests.report.test_leaderboard import leaderboard, record


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


def test_runs_without_a_teacher_count_under_every_teacher_and_once_without_others() -> None:
    """ce has no teacher; kd was run with two, one of which has another setting, and protocol by protocol."""
    alone = [record("ce", seed, 0.5, teacher="none") for seed in (0, 1)]
    (group,) = group_by_conditions(group_by_method(alone))
    assert group.conditions.networks == "conv4-16 without a teacher"
    other = {"teacher": "conv4-32", "preset": "quick+teacher.steps=50"}
    mixed = [*alone, record("ce (x)", 0, 0.5, teacher="none", preset="quick+method.x=1")]
    mixed += [record("kd", seed, 0.6, **more) for seed in (0, 1) for more in ({}, other)]
    mixed += [record("kd", 0, 0.6, preset="quick+training.steps=3"), record("kd", 0, 0.6, protocol="distill-same")]
    groups = {(g.conditions.protocol, g.conditions.preset): g for g in group_by_conditions(group_by_method(mixed))}
    assert len(groups) == 4
    for preset, teacher in (("quick", "conv4-64"), ("quick+teacher.steps=50", "conv4-32")):
        group = groups["fewshot-5way1shot", preset]
        assert (group.conditions.teacher, len(group.results)) == (teacher, 3)
        by_label = {result.label: result for result in group.results}
        assert [run["key"] for run in by_label["ce"].done.values()] == [run["key"] for run in alone]
        assert by_label["ce"].preset == preset
        assert by_label["ce (x) (x=1)"].preset == f"{preset.replace('quick', 'quick+method.x=1', 1)}"
    for key in (("fewshot-5way1shot", "quick+training.steps=3"), ("distill-same", "quick")):
        assert [result.method for result in groups[key].results] == ["kd"]
    rows = leaderboard(mixed)
    assert sorted(rows[rows["method"] == "ce"]["teacher"]) == ["conv4-32", "conv4-64"]


def test_a_run_without_a_teacher_completes_earlier_ones_that_name_theirs() -> None:
    records = [record("ce", 0, 0.5), record("ce", 1, 0.6, teacher="none"), record("kd", 0, 0.7)]
    ce, kd = group_by_method(records)
    assert (ce.conditions, list(ce.done)) == (kd.conditions, [0, 1])


def test_what_was_measured_of_a_teacher_beside_a_run_holds_under_no_other() -> None:
    """ce beside conv4-64 and then conv4-32; kd under conv4-8, whose own teacher is not measured."""

    def ce(seed: int, teacher: str, value: float) -> dict[str, Any]:
        references = {"teacher": {"value": value, "intervals": {}}, "pixels": {"value": 0.3, "intervals": {}}}
        beside = {"teacher": {"backbone": teacher}}
        facts = {"accuracy": value}
        return record("ce", seed, 0.5, teacher="none", references=references, beside=beside, teacher_facts=facts)

    alone = [ce(0, "conv4-64", 0.8), ce(1, "conv4-32", 0.4)]
    (group,) = group_by_conditions(group_by_method(alone))
    intervals = reference_intervals(group.results)
    assert (intervals["teacher"].mean, intervals["teacher"].n) == (0.8, 1)
    assert intervals["nearest mean on pixels"].n == 2
    assert setting_facts(group.results) == ["teacher 80.0 % on its own classes"]
    (group,) = group_by_conditions(group_by_method([*alone, record("kd", 0, 0.6, teacher="conv4-8")]))
    assert group.conditions.teacher == "conv4-8"
    assert "teacher" not in reference_intervals(group.results)
    assert setting_facts(group.results) == []
    assert {shows_teacher(run) for run in group.results[0].done.values()} == {False}
