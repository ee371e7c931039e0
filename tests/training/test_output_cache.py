"""What is remembered of a teacher changes nothing but the time that runs take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.experiment.runner import Plan, Request, measure
from benchmark.records.store import Store
from benchmark.sweep.executors.base import Job, Setting, run_job
from benchmark.sweep.grid import GridBlock
from benchmark.sweep.jobs import plan_cells
from benchmark.system.progress import Silent
from benchmark.training import TeacherOutputCache, TeacherStore, select_device
from benchmark.training.frozen_teacher import FrozenTeacher

DEVICE = select_device("cpu", "float32")
PLACES = ["distill-overlap40", "incremental-1step-5exemplars", "middleshot-3way2shot", "fewshot-3way1shot"]
COMPARED = "value", "intervals", "references", "history"


def carry_out(
    root: Path, protocol: str, method: str, passes: TeacherOutputCache | None, *overrides: str
) -> dict[str, Any]:
    """What a run determines, its arrays as bytes."""
    small = ("training.batch_size=8", "teacher.batch_size=16", "teacher.steps=4", *overrides)
    if protocol.startswith(("fewshot", "middleshot")):
        count = "episodes" if protocol.startswith("fewshot") else "tasks"
        small += (f"protocol.{count}=6", "protocol.queries=4")
    plan = Plan(Request(protocol, method, "tiny", "quick", ("training.steps=6", *small)), root)
    bank = TeacherStore(root / "teachers", passes=passes)
    record, arrays = measure(plan, plan.spec(3), bank, DEVICE, Silent())
    assert record["status"] == "done", record
    return {name: record[name] for name in COMPARED} | {name: x.tobytes() for name, x in arrays.items()}


@pytest.mark.parametrize("protocol", PLACES)
def test_what_is_remembered_is_what_would_be_computed(
    tmp_path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another method and other settings came before; then the teacher is not asked again for what they asked."""
    alone = carry_out(tmp_path, protocol, "refilled", None)
    passes = TeacherOutputCache()
    carry_out(tmp_path, protocol, "rkd", passes)
    assert passes.seconds_saved == 0
    assert carry_out(tmp_path, protocol, "refilled", passes) == alone
    assert passes.seconds_saved > 0
    computed = []
    both = FrozenTeacher._both
    monkeypatch.setattr(FrozenTeacher, "_both", lambda self, pixels: computed.append(len(pixels)) or both(self, pixels))
    assert carry_out(tmp_path, protocol, "refilled", passes) == alone
    assert computed == []


@pytest.mark.parametrize("changed", ["teacher.seed=1", "training.crop_padding=1", "training.normalisation=cifar100"])
def test_another_teacher_or_view_is_another_pass(tmp_path: Path, changed: str) -> None:
    passes = TeacherOutputCache()
    carry_out(tmp_path, "distill-cross", "rkd", passes)
    assert carry_out(tmp_path, "distill-cross", "rkd", passes, changed) == carry_out(
        tmp_path, "distill-cross", "rkd", None, changed
    )


def test_methods_that_read_stages_are_given_them(tmp_path: Path) -> None:
    passes = TeacherOutputCache()
    carry_out(tmp_path, "distill-cross", "rkd", passes)
    assert carry_out(tmp_path, "distill-cross", "at", passes) == carry_out(tmp_path, "distill-cross", "at", None)


def get(passes: TeacherOutputCache, number: int, size: int = 4) -> float:
    made = passes.get(DEVICE, ["net"], (np.array([number]),), lambda: (torch.full((size,), torch.rand(()).item()),))
    made[0].add_(1)  # what a caller does to it is its own affair
    return float(made[0][0])


def test_the_longest_unused_is_forgotten() -> None:
    passes = TeacherOutputCache(most=3 * 4 * 4)
    first = [get(passes, number) for number in range(3)]
    assert [get(passes, number) for number in range(3)] == first
    get(passes, 0)
    get(passes, 3)  # in the place of 1
    assert [get(passes, number) == first[number] for number in (0, 2, 1)] == [True, True, False]


def test_nothing_is_kept_where_nothing_may_be() -> None:
    passes = TeacherOutputCache(0)
    assert get(passes, 0) != get(passes, 0)
    assert passes.seconds_saved == 0


def test_the_clock_counts_a_remembered_pass_as_long_as_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [10.0]
    monkeypatch.setattr("benchmark.training.output_cache.time.perf_counter", lambda: clock[0])
    passes = TeacherOutputCache()

    def slow() -> tuple[torch.Tensor]:
        clock[0] += 5
        return (torch.zeros(1),)

    for _ in range(3):
        before = passes.now()
        passes.get(DEVICE, "net", (), slow)
        assert passes.now() - before == 5
    assert clock == [15.0]


def test_the_runs_of_a_sweep_share_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one process the teacher sees the batches of a seed once, whatever the methods."""
    computed = []
    both = FrozenTeacher._both
    monkeypatch.setattr(FrozenTeacher, "_both", lambda self, pixels: computed.append(len(pixels)) or both(self, pixels))
    block = GridBlock(("distill-cross",), ("rkd", "pkt"), ("tiny",), (0, 1), limit_steps=5)
    setting = Setting(tmp_path / "results", tmp_path, "cpu")
    for cell in plan_cells([block], tmp_path, Silent()).cells:
        assert run_job(Job(cell), setting, Silent()).status == "done"
    assert len(computed) == 2 * 5
    assert len(list(Store(tmp_path / "results").records())) == 4
    elsewhere = tmp_path / "elsewhere"  # teachers of another folder may have other weights under the same key
    (cell, *_) = plan_cells([block], elsewhere, Silent()).cells
    assert run_job(Job(cell), Setting(tmp_path / "more", elsewhere, "cpu"), Silent()).status == "done"
    assert len(computed) == 3 * 5
