"""The cache of teacher outputs changes nothing but the seconds of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.experiment.measurement import measure
from benchmark.records.schema import determined
from benchmark.records.store import Store
from benchmark.sweep.executors.base import SweepConfig, run_job
from benchmark.sweep.grid import GridBlock
from benchmark.sweep.jobs import plan_jobs
from benchmark.system.progress import Silent
from benchmark.training import TeacherOutputCache, TeacherStore
from benchmark.training.frozen_teacher import FrozenTeacher

from ..smoke import DEVICE, smoke_plan

PLACES = ["distill-overlap40", "incremental-1step-5exemplars", "middleshot-3way2shot", "fewshot-3way1shot"]


def determined_results(
    root: Path, protocol: str, method: str, cache: TeacherOutputCache | None, *overrides: str
) -> dict[str, Any]:
    """Return what a run determines, its arrays as bytes."""
    steps = ("training.steps=6", "teacher.steps=4", "training.batch_size=8")
    plan = smoke_plan(root, protocol, method, *steps, *overrides)
    store = TeacherStore(root / "teachers", output_cache=cache)
    record, arrays = measure(plan, plan.spec(3), store, DEVICE, Silent())
    assert record["status"] == "done", record
    return determined(record) | {name: x.tobytes() for name, x in arrays.items()}


@pytest.mark.parametrize("protocol", PLACES)
def test_cached_outputs_give_the_same_run(teachers: Path, protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another method and other settings ran before; their batches are not computed again."""
    alone = determined_results(teachers, protocol, "refilled", None)
    cache = TeacherOutputCache()
    determined_results(teachers, protocol, "rkd", cache)
    assert cache.clock.seconds_saved == 0
    assert determined_results(teachers, protocol, "refilled", cache) == alone
    assert cache.clock.seconds_saved > 0
    computed = []
    forward = FrozenTeacher._embedding_and_logits
    monkeypatch.setattr(
        FrozenTeacher,
        "_embedding_and_logits",
        lambda self, pixels: computed.append(len(pixels)) or forward(self, pixels),
    )
    assert determined_results(teachers, protocol, "refilled", cache) == alone
    assert computed == []


@pytest.mark.parametrize("changed", ["teacher.seed=1", "training.crop_padding=1", "training.normalisation=cifar100"])
def test_another_teacher_or_crop_is_computed(teachers: Path, changed: str) -> None:
    cache = TeacherOutputCache()
    determined_results(teachers, "distill-cross", "rkd", cache)
    assert determined_results(teachers, "distill-cross", "rkd", cache, changed) == determined_results(
        teachers, "distill-cross", "rkd", None, changed
    )


def test_cache_is_not_used_for_stages(teachers: Path) -> None:
    cache = TeacherOutputCache()
    determined_results(teachers, "distill-cross", "rkd", cache)
    assert determined_results(teachers, "distill-cross", "at", cache) == determined_results(
        teachers, "distill-cross", "at", None
    )


def get(cache: TeacherOutputCache, number: int, size: int = 4) -> float:
    made = cache.get(DEVICE, ["net"], (np.array([number]),), lambda: (torch.full((size,), torch.rand(()).item()),))
    made[0].add_(1)  # callers may change what they get
    return float(made[0][0])


def test_cache_removes_the_longest_unused_entry() -> None:
    cache = TeacherOutputCache(max_bytes=3 * 4 * 4)
    first = [get(cache, number) for number in range(3)]
    assert [get(cache, number) for number in range(3)] == first
    get(cache, 0)
    get(cache, 3)  # in the place of 1
    assert [get(cache, number) == first[number] for number in (0, 2, 1)] == [True, True, False]


def test_cache_of_no_bytes_stores_nothing() -> None:
    cache = TeacherOutputCache(0)
    assert get(cache, 0) != get(cache, 0)
    assert cache.clock.seconds_saved == 0


def test_cost_clock_counts_a_cached_entry_with_its_original_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [10.0]
    monkeypatch.setattr("benchmark.training.output_cache.time.perf_counter", lambda: clock[0])
    cache = TeacherOutputCache()

    def slow() -> tuple[torch.Tensor]:
        clock[0] += 5
        return (torch.zeros(1),)

    for _ in range(3):
        before = cache.clock.now()
        cache.get(DEVICE, "net", (), slow)
        assert cache.clock.now() - before == 5
    assert clock == [15.0]


def test_runs_of_a_sweep_share_cached_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one process the teacher sees the batches of a seed once for all methods."""
    computed = []
    forward = FrozenTeacher._embedding_and_logits
    monkeypatch.setattr(
        FrozenTeacher,
        "_embedding_and_logits",
        lambda self, pixels: computed.append(len(pixels)) or forward(self, pixels),
    )
    block = GridBlock(("distill-cross",), ("rkd", "pkt"), ("tiny",), (0, 1), limit_steps=5)
    config = SweepConfig(tmp_path / "results", tmp_path, "cpu")
    for job in plan_jobs([block], tmp_path, Silent()).jobs:
        assert run_job(job, config, lambda event: None).status == "done"
    assert len(computed) == 2 * 5
    assert len(list(Store(tmp_path / "results").records())) == 4
    elsewhere = tmp_path / "elsewhere"  # teachers of another folder may have other weights under the same key
    (job, *_) = plan_jobs([block], elsewhere, Silent()).jobs
    assert run_job(job, SweepConfig(tmp_path / "more", elsewhere, "cpu"), lambda event: None).status == "done"
    assert len(computed) == 3 * 5
