from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from benchmark.errors import InputError
from benchmark.records.store import Store
from benchmark.report.aggregation import group_by_method
from benchmark.report.compare import Comparison, compare, sentences, to_rows
from tests.records.making import make_failed, make_record

RNG = np.random.default_rng(0)


def save(
    store: Store, method: str, seed: int, value: float, arrays: dict[str, Any] | None = None, **changes: Any
) -> None:
    labels = {"dataset": "glyphs", "protocol": "fewshot-5way1shot", **changes}
    record = make_record(method=method, seed=seed, value=value, **labels)
    store.save(record, arrays or {})


def compare_stored(store: Store, *names: str) -> tuple[list[Comparison], list[str]]:
    return compare(group_by_method(store.read()[0]), names, store)


def test_compare_tests_a_pair_by_paired_t_over_common_seeds(tmp_path: Path) -> None:
    store = Store(tmp_path)
    a, b = RNG.normal(0.80, 0.01, 5), RNG.normal(0.78, 0.01, 5)
    for seed in range(5):
        save(store, "refilled", seed, a[seed])
        save(store, "ce", seed, b[seed])
    save(store, "ce", 7, 0.1)
    (comparison,), left_out = compare_stored(store, "refilled", "ce")
    test = stats.ttest_rel(a, b)
    low, high = test.confidence_interval(0.95)
    assert left_out == []
    assert comparison.differences == pytest.approx(tuple(a - b))
    assert comparison.means == pytest.approx((a.mean(), b.mean()))
    assert comparison.adjusted_p == pytest.approx(test.pvalue)
    assert f"95 % CI {100 * low:.1f} to {100 * high:.1f}, 5 seeds; paired t, p " in comparison.sentence
    assert comparison.sentence.startswith(f"refilled is better than ce by {100 * (a - b).mean():.1f} points")
    (swapped,), _ = compare_stored(store, "ce", "refilled")
    assert swapped.sentence == comparison.sentence


def test_sentence_of_an_insignificant_difference_says_cannot_tell(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for seed, (a, b) in enumerate([(0.70, 0.71), (0.72, 0.70), (0.71, 0.75)]):
        save(store, "rkd", seed, a)
        save(store, "ce", seed, b)
    (comparison,), _ = compare_stored(store, "rkd", "ce")
    assert not comparison.differs
    verdict = "cannot tell rkd from ce: ce ahead by 1.0 points, 95 % CI -6.5 to 8.5, 3 seeds"
    assert comparison.sentence.startswith(verdict)
    assert "; paired t, p = ." in comparison.sentence


def test_compare_of_one_common_seed_gives_a_difference_without_test(tmp_path: Path) -> None:
    store = Store(tmp_path)
    save(store, "rkd", 0, 0.9)
    save(store, "ce", 0, 0.1)
    (comparison,), _ = compare_stored(store, "rkd", "ce")
    assert (comparison.adjusted_p, comparison.differs) == (None, False)
    assert comparison.sentence == "cannot tell rkd from ce: +80.0 points in one seed; run more with --seeds"


def test_compare_adjusts_over_all_pairs_and_tests_all_conditions_by_means_of_seeds(tmp_path: Path) -> None:
    store = Store(tmp_path)
    values = {
        (p, m): RNG.normal(0.7 + 0.01 * i, 0.01, 4)
        for p in ("fewshot-5way1shot", "distill-same") for i, m in enumerate(("ce", "kd", "rkd"))
    }  # fmt: skip
    for (protocol, method), seeds in values.items():
        for seed, value in enumerate(seeds):
            save(store, method, seed, value, protocol=protocol)
    comparisons, _ = compare_stored(store, "ce", "kd", "rkd")
    single = [c for c in comparisons if c.conditions is not None]
    together = [c for c in comparisons if c.conditions is None]
    assert [len(single), len(together)] == [6, 3]
    plain = [
        stats.ttest_rel(values[c.conditions.protocol, c.a], values[c.conditions.protocol, c.b]).pvalue
        for c in single if c.conditions is not None
    ]  # fmt: skip
    assert [c.adjusted_p for c in single] == pytest.approx(multipletests(plain, method="holm")[1].tolist())
    pooled = []
    for c in together:
        both = [values[p, c.a] - values[p, c.b] for p in ("distill-same", "fewshot-5way1shot")]
        assert c.differences == pytest.approx(tuple(np.mean(both, axis=0)))
        assert c.means[0] - c.means[1] == pytest.approx(np.mean(both))
        pooled.append(stats.ttest_1samp(np.mean(both, axis=0), 0).pvalue)
        assert "4 seeds, each a mean over 2 conditions; paired t" in c.sentence
    assert [c.adjusted_p for c in together] == pytest.approx(multipletests(pooled, method="holm")[1].tolist())
    assert {c.family for c in single} == {6}


def test_conditions_that_share_a_training_add_no_observation(tmp_path: Path) -> None:
    """ce reads no teacher: its values are the same under each, so more teachers are no more evidence."""
    store = Store(tmp_path)
    for teacher in ("conv4-32", "conv4-64", "resnet20"):
        for seed, value in enumerate((0.5, 0.53, 0.49)):
            save(store, "ce", seed, value, teacher=teacher)
            save(store, "refilled", seed, value + (0.01, 0.0, 0.02)[seed], teacher=teacher)
    comparisons, _ = compare_stored(store, "refilled", "ce")
    one, together = comparisons[0], comparisons[-1]
    assert together.conditions is None
    assert together.differences == pytest.approx(one.differences)
    assert together.p == pytest.approx(one.p)
    lines = sentences(comparisons)
    assert len(set(lines)) == len(lines) == 4
    starts = [f"fewshot-5way1shot glyphs teacher {name}: " for name in ("conv4-32", "conv4-64", "resnet20")]
    assert [line.startswith(start) for line, start in zip(lines, [*starts, "all: "], strict=True)] == [True] * 4


def test_pooled_seeds_are_those_of_all_conditions(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for protocol, seeds in (("distill-same", 3), ("distill-cross", 2)):
        for seed in range(seeds):
            save(store, "kd", seed, 0.5 + 0.1 * seed**2, protocol=protocol)
            save(store, "ce", seed, 0.4, protocol=protocol)
    *_, together = compare_stored(store, "kd", "ce")[0]
    assert together.seeds == (0, 1)
    save(store, "kd", 9, 0.5, protocol="fewshot-5way1shot")
    save(store, "ce", 9, 0.5, protocol="fewshot-5way1shot")
    comparisons, left_out = compare_stored(store, "kd", "ce")
    assert all(c.conditions is not None for c in comparisons)
    assert left_out == ["all: kd and ce have no seed under all 3 conditions"]


def test_compare_takes_one_method_with_two_teachers(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for seed in range(3):
        save(store, "refilled", seed, 0.5 + seed / 100, teacher="conv4-32")
        save(store, "refilled", seed, 0.6 + seed / 90, teacher="conv4-64")
        save(store, "ce", seed, 0.4 + seed / 80, teacher="conv4-64")
    (comparison,), left_out = compare_stored(store, "refilled@conv4-32", "refilled@conv4-64")
    assert left_out == []
    assert comparison.differences == pytest.approx([-0.1, -0.1 + 1 / 100 - 1 / 90, -0.1 + 2 / 100 - 2 / 90])
    assert comparison.sentence.startswith("refilled@conv4-64 is better than refilled@conv4-32 by 10.1 points")
    (comparison,), left_out = compare_stored(store, "refilled@conv4-64", "ce")
    assert comparison.conditions is not None
    assert comparison.conditions.teacher == "conv4-64"
    with pytest.raises(InputError, match="there are some of refilled@conv4-32, refilled@conv4-64"):
        compare_stored(store, "refilled@conv4-16", "ce")
    save(store, "kd", 0, 0.4, teacher="conv4-32")
    (comparison,), left_out = compare_stored(store, "kd", "refilled")
    assert left_out == ["fewshot-5way1shot glyphs teacher conv4-64: no record of kd"]


def test_run_that_reads_no_teacher_counts_under_every_teacher(tmp_path: Path) -> None:
    """ce has no teacher, refilled was run with two, whose settings differ too; ncm is its teacher."""
    store = Store(tmp_path)
    other = {"teacher": "conv4-32", "preset": "quick+teacher.steps=50"}
    for seed in range(2):
        save(store, "ce", seed, 0.5 + seed / 50, teacher="none")
        save(store, "ncm", seed, 0.7)
        for more in ({}, other):
            save(store, "refilled", seed, 0.6 + seed / (70 if more else 60), **more)
    comparisons, left_out = compare_stored(store, "refilled", "ce")
    assert left_out == []
    assert [c.conditions and c.conditions.teacher for c in comparisons] == ["conv4-64", "conv4-32", None]
    assert comparisons[1].differences == pytest.approx([0.1, 0.1 + 1 / 70 - 1 / 50])
    assert len(comparisons[2].differences) == 2
    (_,), left_out = compare_stored(store, "refilled", "ncm")
    assert len(left_out) == 1
    assert left_out[0].endswith("teacher conv4-32: no record of ncm")
    for seed in range(2):
        save(store, "replay", seed, 0.5, protocol="incremental-1step-5exemplars")
        save(store, "lwf", seed, 0.6, protocol="incremental-1step-5exemplars", teacher="conv4-32")
    with pytest.raises(InputError, match="have no seed of any protocol in common"):
        compare_stored(store, "lwf", "replay")  # the teacher chooses the exemplars


def test_compare_says_equal_or_without_spread_where_no_test_is_possible(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for seed in range(2):
        save(store, "ncm", seed, 1.0)
        save(store, "logistic-regression", seed, 1.0)
        save(store, "ce", seed, 0.75)
    equal, ahead, _ = compare_stored(store, "ncm", "logistic-regression", "ce")[0]
    assert equal.sentence == "cannot tell ncm from logistic-regression: equal in every seed, 2 seeds"
    assert equal.paired.effect == 0
    assert ahead.sentence == (
        "cannot tell ncm from ce: ncm ahead by 25.0 points in every seed, 2 seeds; no interval and no test, because "
        "the seeds show no spread"
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(-400, 400)] * 3), min_size=2, max_size=9),
    st.integers(1, 4),
)
def test_no_verdict_contradicts_its_interval(points: list[tuple[int, int, int]], scale: int) -> None:
    """As they are printed: no "better" beside an interval that holds 0, and "cannot tell" beside another says why."""
    results = group_by_method(
        make_record("fewshot-5way1shot", method, seed, 0.5 + (sign * row[i] / 10**scale / 100 if sign else 0))
        for seed, row in enumerate(points)
        for i, (method, sign) in enumerate((("kd", 1), ("ce", 0), ("rkd", -1)))
    )
    for comparison in compare(results, ("kd", "ce", "rkd"), Store(Path("unused")))[0]:
        interval = re.search(r"CI (-?[\d.]+) to (-?[\d.]+)", comparison.sentence)
        if interval is None:
            assert "is better" not in comparison.sentence
            continue
        excludes = float(interval[1]) * float(interval[2]) > 0
        if "is better" in comparison.sentence:
            assert excludes
        elif excludes:
            assert "alone, but p " in comparison.sentence
            assert "after Holm's correction over" in comparison.sentence


def test_damaged_arrays_leave_the_comparison_of_seeds(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for method in ("kd", "ce"):
        for seed in range(2):
            arrays = {"images": np.arange(8), "labels": np.arange(8), "predicted_student": np.arange(8) % (3 + seed)}
            save(store, method, seed, 0.5 + seed / 9 if method == "kd" else 0.5, arrays)
    _, other = sorted(tmp_path.glob("*.s0.*.npz"))
    (whole,), _ = compare_stored(store, "kd", "ce")
    assert whole.damage is None
    other.write_bytes(np.zeros(3).tobytes())
    (comparison,), _ = compare_stored(store, "kd", "ce")
    assert comparison.paired == whole.paired
    assert (bool(whole.within), dict(comparison.within)) == (True, {})
    assert comparison.damage is not None
    assert other.name in comparison.damage


def test_within_intervals_are_those_of_differences_on_common_episodes(tmp_path: Path) -> None:
    """Difficulty that both methods share cancels: the interval is that of the differences per episode."""
    store = Store(tmp_path)
    classes = [np.stack([RNG.permutation(12)[:5] for _ in range(300)]) for _ in range(2)]
    hard = [RNG.integers(5, 20, 300) for _ in range(2)]
    correct = {m: [h + RNG.integers(0, 4, 300) for h in hard] for m in ("rkd", "ce")}
    apart = {m: [RNG.integers(5, 25, 11) for _ in range(2)] for m in ("rkd", "ce")}
    for m in correct:
        for seed in range(2):
            arrays = {
                "classes": classes[seed],
                "correct_student": correct[m][seed],
                "disjoint_correct_student": apart[m][seed],
            }
            save(store, m, seed, correct[m][seed].mean() / 25, arrays)
    (comparison,), _ = compare_stored(store, "rkd", "ce")
    d = (np.concatenate(correct["rkd"]) - np.concatenate(correct["ce"])) / 25
    assert comparison.within["episode"].half_width == pytest.approx(1.96 * np.std(d, ddof=1) / math.sqrt(600))
    assert comparison.within["episode"].mean == pytest.approx(comparison.paired.interval.mean)
    every = np.concatenate(classes)
    deleted = [np.mean(d[~(every == c).any(1)]) for c in range(12)]
    error = math.sqrt(11 / 12 * sum((x - np.mean(deleted)) ** 2 for x in deleted))
    assert comparison.within["class"].half_width == pytest.approx(stats.t.ppf(0.975, 11) * error)
    halves = [stats.t.ppf(0.975, 10) * stats.sem((apart["rkd"][s] - apart["ce"][s]) / 25) for s in range(2)]
    assert comparison.within["image"].half_width == pytest.approx(np.mean(halves))


def test_within_interval_counts_images_of_all_seeds_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    images, labels = np.arange(80), RNG.integers(0, 4, 80)
    predicted = {m: RNG.integers(0, 4, (3, 80)) for m in ("rkd", "ce")}
    for m in predicted:
        for seed in range(3):
            arrays = {"images": images, "labels": labels, "predicted_student": predicted[m][seed]}
            save(store, m, seed, float((predicted[m][seed] == labels).mean()), arrays)
    (comparison,), _ = compare_stored(store, "rkd", "ce")
    d = ((predicted["rkd"] == labels).astype(float) - (predicted["ce"] == labels)).mean(0)
    assert comparison.within["image"].half_width == pytest.approx(stats.t.ppf(0.975, 79) * stats.sem(d))


def test_compare_refuses_runs_on_different_episodes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number, m in enumerate(("rkd", "ce")):
        arrays = {"classes": np.full((9, 5), number), "correct_student": np.arange(9)}
        save(store, m, 0, 0.5, arrays)
    with pytest.raises(InputError, match="not judged on the same classes on fewshot-5way1shot seed 0"):
        compare_stored(store, "rkd", "ce")


def test_compare_names_missing_methods_and_seeds(tmp_path: Path) -> None:
    store = Store(tmp_path)
    save(store, "rkd", 0, 0.5)
    save(store, "rkd", 0, 0.5, dataset="emoji")
    save(store, "ce", 1, 0.5)
    save(store, "kd", 0, 0.5)
    store.save(make_failed("fewshot-5way1shot", "pkt", dataset="glyphs"), {})
    with pytest.raises(InputError, match="no records of 'at' here; there are some of ce, kd, pkt, rkd"):
        compare_stored(store, "rkd", "at")
    with pytest.raises(InputError, match="rkd and ce have no seed of any protocol in common"):
        compare_stored(store, "rkd", "ce")
    with pytest.raises(InputError, match="two different methods"):
        compare_stored(store, "rkd", "rkd")
    with pytest.raises(InputError, match="rkd and pkt have no seed"):
        compare_stored(store, "rkd", "pkt")
    comparisons, left_out = compare_stored(store, "rkd", "kd")
    assert len(comparisons) == 1
    assert left_out == ["fewshot-5way1shot emoji: no record of kd"]


def test_compare_treats_method_settings_as_another_method(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for seed in range(3):
        save(store, "refilled", seed, 0.5 + seed / 50)
        save(store, "refilled", seed, 0.6 + seed / 70, preset="quick+method.margin=0.1")
    (comparison,), _ = compare_stored(store, "refilled (margin=0.1)", "refilled")
    (row,) = to_rows([comparison])
    assert (row["a"], row["b"], row["n"]) == ("refilled (margin=0.1)", "refilled", 3)
    assert row["difference"] == pytest.approx(0.1 - (1 / 50 - 1 / 70))
