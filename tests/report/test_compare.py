from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from benchmark.errors import InputError
from benchmark.records.schema import SCHEMA
from benchmark.records.store import Store
from benchmark.report.aggregation import group_by_method
from benchmark.report.compare import Comparison, compare, to_rows

RNG = np.random.default_rng(0)


def save(
    store: Store, method: str, seed: int, value: float, arrays: dict[str, Any] | None = None, **changes: Any
) -> None:
    key = hashlib.sha256(f"{method} {seed} {changes}".encode()).hexdigest()
    record = {
        "schema": SCHEMA, "key": key, "status": "done", "provenance": "measured", "protocol": "fewshot-5way1shot",
        "dataset": "glyphs", "preset": "quick", "teacher": "conv4-64", "backbone": "conv4-16", "method": method,
        "seed": seed, "metric": "accuracy", "value": value, "intervals": {}, "references": {},
        "facts": {"queries_per_episode": 25}, "started": "2026-01-01", **changes,
    }  # fmt: skip
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
    assert f"95 % CI {100 * low:.1f} to {100 * high:.1f}, 5 seeds" in comparison.sentence
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
    assert "Holm-adjusted p = ." in comparison.sentence


def test_compare_of_one_common_seed_gives_a_difference_without_test(tmp_path: Path) -> None:
    store = Store(tmp_path)
    save(store, "rkd", 0, 0.9)
    save(store, "ce", 0, 0.1)
    (comparison,), _ = compare_stored(store, "rkd", "ce")
    assert (comparison.adjusted_p, comparison.differs) == (None, False)
    assert comparison.sentence == "cannot tell rkd from ce: +80.0 points in one seed; run more with --seeds"


def test_compare_adjusts_over_all_pairs_and_tests_all_conditions_by_signed_ranks(tmp_path: Path) -> None:
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
        pooled.append(stats.wilcoxon(np.concatenate(both)).pvalue)
        assert "8 pairs of conditions and seed; signed ranks" in c.sentence
    assert [c.adjusted_p for c in together] == pytest.approx(multipletests(pooled, method="holm")[1].tolist())


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
    save(store, "kd", 0, 0.5, provenance="reported-in-paper", protocol="distill-same")
    save(store, "pkt", 0, 0.0, status="failed")
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
