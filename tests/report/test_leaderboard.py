from __future__ import annotations

import random
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmark.report.aggregation import group_by_conditions, group_by_method
from benchmark.report.csv import to_csv
from benchmark.report.leaderboard import COLUMNS, reported, with_reported
from benchmark.report.leaderboard import leaderboard as whole
from benchmark.report.references import reference_intervals, setting_facts


def leaderboard(records: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows of methods."""
    frame = whole(records)
    return frame[frame["status"] != "reference"].reset_index(drop=True)


def record(method: str, seed: int, value: float, **changes: Any) -> dict[str, Any]:
    return {
        "key": f"{method}{seed}{changes}",
        "status": "done",
        "protocol": "fewshot-5way1shot",
        "dataset": "glyphs",
        "preset": "quick",
        "teacher": "conv4-64",
        "backbone": "conv4-16",
        "method": method,
        "seed": seed,
        "metric": "accuracy",
        "value": value,
        "intervals": {"episode": {"half_width": 0.002, "n": 10_000}},
        "provenance": "measured",
        "started": "2026-01-01",
        **changes,
    }


def test_leaderboard_has_one_row_per_method_with_the_interval_over_seeds() -> None:
    values = [0.70, 0.72, 0.69]
    frame = leaderboard([record("kd", seed, value) for seed, value in enumerate(values)])
    assert tuple(frame.columns) == COLUMNS
    (row,) = frame.to_dict("records")
    assert row["mean"] == pytest.approx(np.mean(values))
    assert row["ci95"] == pytest.approx(stats.t.ppf(0.975, 2) * stats.sem(values))
    assert row["episode_ci95"] == pytest.approx(0.002 / 3**0.5)
    assert (row["n_seeds"], row["rank"], row["best"], row["status"]) == (3, 1, True, "done")


def test_leaderboard_ends_each_group_with_what_methods_are_read_against() -> None:
    scores = {"teacher": {"value": 0.6, "intervals": {}}, "pixels": {"value": 0.3, "intervals": {}}}
    records = [record(m, s, 0.5, references=scores) for m in ("ce", "rkd") for s in (0, 1)]
    records += [record("ce", 0, 0.4, references=scores, dataset="emoji")]
    frame = whole(records)
    assert frame["dataset"].tolist() == ["emoji"] * 4 + ["glyphs"] * 5
    references = frame[(frame["status"] == "reference") & (frame["dataset"] == "glyphs")]
    assert references["method"].tolist() == ["chance", "nearest mean on pixels", "teacher"]
    assert references["mean"].tolist() == [0.2, 0.3, 0.6]
    assert references["n_seeds"].tolist() == [2, 2, 2]
    assert references[["rank", "best"]].isna().all().all()


@pytest.mark.parametrize(
    ("protocol", "facts", "chance"),
    [
        ("fewshot-5way1shot", {}, 1 / 5),
        ("middleshot-5way10shot", {}, 1 / 5),
        ("incremental-1step-5exemplars", {"classes_old": 30, "classes_new": 20, "exemplars_per_class": 5}, 1 / 50),
        ("distill-cross", {"classes": 42, "images_per_class": 2}, 1 / 42),
    ],
)
def test_every_protocol_has_a_row_of_chance(protocol: str, facts: dict[str, int], chance: float) -> None:
    results = group_by_method([record("ce", 0, 0.5, protocol=protocol, facts=facts, references={})])
    assert reference_intervals(results)["chance"].mean == pytest.approx(chance)


def test_heading_states_images_per_class_and_the_teacher() -> None:
    facts = {"classes": 42, "images_per_class": 2}
    results = group_by_method([record("ce", 0, 0.5, facts=facts, teacher_facts={"accuracy": 0.4308})])
    assert setting_facts(results) == ["2 images per class", "42 classes", "teacher 43.1 % on its own classes"]
    (all_images,) = group_by_method([record("ce", 0, 0.5, facts={"images_per_class": 0})])
    assert setting_facts([all_images]) == ["all images per class"]


def test_leaderboard_names_the_records_of_a_row() -> None:
    (keys,) = leaderboard([record("kd", s, 0.5, key=f"{s}" * 64) for s in (1, 0)])["keys"]
    assert keys == "000000000000 111111111111"


def test_leaderboard_row_of_one_seed_has_no_interval() -> None:
    assert pd.isna(leaderboard([record("kd", 0, 0.5)])["ci95"][0])


def test_leaderboard_ranks_over_the_seeds_that_all_methods_share() -> None:
    records = [record("kd", s, 0.6) for s in (0, 1)] + [record("rkd", s, 0.7) for s in (0, 1)]
    records += [record("ce", 0, 0.65)]
    records += [record("fitnet", 0, 0.8), record("fitnet", 1, 0.0, status="failed")]
    for incomplete in records[-1:]:
        del incomplete["value"], incomplete["metric"]
    frame = leaderboard(records).set_index("method")
    assert frame["status"].to_dict() == {"ce": "incomplete", "fitnet": "incomplete", "kd": "done", "rkd": "done"}
    assert frame.loc[["fitnet", "rkd", "ce", "kd"], "rank"].tolist() == [1, 2, 3, 4]
    assert frame.loc[["fitnet", "rkd"], "best"].tolist() == [True, False]
    (group,) = group_by_conditions(group_by_method(records))
    assert group.note == "ranks over seed 0, which every method has finished"
    (apart,) = group_by_conditions(group_by_method([*records, record("at", 7, 0.9)]))
    assert apart.note == "not ranked: no seed is finished by every method"
    assert leaderboard([*records, record("at", 7, 0.9)])["rank"].isna().all()
    assert group_by_conditions(group_by_method(records[:4]))[0].note == ""


def test_leaderboard_status_of_a_method_without_finished_run_is_failed() -> None:
    frame = leaderboard([record("kd", 0, 0.5), record("ce", 0, 0.0, status="failed")]).set_index("method")
    assert frame.loc["ce", "status"] == "failed"
    assert frame.loc["kd", "rank"] == 1


def test_leaderboard_ranks_within_equal_conditions() -> None:
    records = [
        record("kd", 0, 0.5),
        record("ce", 0, 0.9, dataset="emoji"),
        record("ce", 0, 0.9, preset="quick+training.lr=0.2"),
        record("ce", 0, 0.9, backbone="conv4-64"),
        record("ce", 0, 0.9, provenance="reported-in-paper"),
    ]
    assert leaderboard(records)["rank"].tolist() == [1] * 5


def test_leaderboard_ranks_method_settings_within_one_group() -> None:
    records = [record("refilled", 0, 0.5), record("refilled", 0, 0.6, preset="quick+method.margin=0.1")]
    assert leaderboard(records).set_index("preset")["rank"].to_dict() == {"quick": 2, "quick+method.margin=0.1": 1}


def test_leaderboard_uses_the_latest_finished_record_of_a_seed() -> None:
    records = [
        record("kd", 0, 0.5),
        record("kd", 0, 0.6, started="2026-02-01"),
        record("kd", 0, 0.0, status="failed", started="2026-03-01"),
    ]
    assert leaderboard(records)["mean"].tolist() == [0.6]


def test_leaderboard_ties_share_a_rank() -> None:
    frame = leaderboard([record("kd", 0, 0.5), record("ce", 0, 0.5), record("rkd", 0, 0.4)]).set_index("method")
    assert frame["rank"].to_dict() == {"ce": 1, "kd": 1, "rkd": 3}


def test_csv_does_not_depend_on_the_order_of_records() -> None:
    records = [record(m, s, 0.5 + s / 100 + i / 50) for i, m in enumerate(("ce", "kd", "rkd")) for s in range(3)]
    text = to_csv(leaderboard(records))
    random.Random(0).shuffle(records)
    assert to_csv(leaderboard(records)) == text
    assert text.startswith(",".join(COLUMNS) + "\n")


def test_reported_numbers_have_a_source_and_no_rank() -> None:
    published = reported()
    assert published["source"].str.contains("arXiv").all()
    assert published["mean"].between(0.6, 0.9).all()
    assert not published.duplicated(["protocol", "dataset", "teacher", "backbone", "method", "source"]).any()
    frame = with_reported(leaderboard([record("kd", 0, 0.5), record("ce", 0, 0.4)]))
    added = frame[frame["provenance"] == "reported-in-paper"]
    assert tuple(frame.columns) == COLUMNS
    assert len(added) == len(published) == 92
    assert added[["rank", "best", "n_seeds", "ci95"]].isna().all().all()
    assert frame["rank"].dropna().tolist() == [2, 1]
    here = added["backbone"].eq("wrn-16-2") & added["method"].eq("refilled-cvpr20")
    assert added[here]["mean"].tolist() == pytest.approx([0.7401])


def test_result_label_keeps_settings_that_contain_a_plus() -> None:
    preset = "quick+method.margin=1e+20+training.lr=0.2"
    (result,) = group_by_method([record("refilled", 0, 0.5, preset=preset)])
    assert result.label == "refilled (margin=1e+20)"
    assert result.conditions.preset == "quick+training.lr=0.2"
