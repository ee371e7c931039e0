from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.data import DATASETS, ImageSet
from benchmark.errors import InputError
from benchmark.experiment.estimation import estimate
from benchmark.experiment.planning import Plan, transfer_context
from benchmark.methods import METHODS
from benchmark.records.store import Store
from benchmark.system.progress import Silent
from benchmark.training import TeacherStore, Trainer
from benchmark.training.parallel_students import train_students
from protocols import PROTOCOLS
from protocols.base import Result
from protocols.middleshot import MiddleShot

from ..embedded import EMBEDDED
from ..smoke import DEVICE, make_trainer, run_plan, smoke_plan


def plan(root: Path, method: str, *overrides: str, name: str = "middleshot-3way2shot") -> Plan:
    return smoke_plan(root, name, method, "teacher.steps=5", "training.steps=3", *overrides)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("middleshot-3way31shot", (), "31 shots: middle-shot tasks have 1 to 30"),
        ("middleshot-3way0shot", (), "0 shots"),
        ("middleshot-7way1shot", (), r"7-way .* 6"),
        ("middleshot-3way20shot", (), r"20-shot episodes with 4 queries need more images"),
        ("middleshot-3way2shot", ("protocol.crops=0",), r"protocol\.crops"),
        ("middleshot-3way2shot", ("protocol.tasks=1",), r"protocol\.tasks"),
    ],
)
def test_impossible_tasks_raise(tmp_path: Path, name: str, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(tmp_path, "ce", *overrides, name=name)


def test_transfer_context_follows_from_the_name() -> None:
    def reason(method: str) -> str | None:
        entry = METHODS.get(method).entry
        return entry.skip_reason(transfer_context("middleshot-5way5shot", entry))

    for method in ("ce", "finetune", "rkd", "pkt", "refilled", "refilled-cvpr20", "ncm", "logistic-regression"):
        assert reason(method) is None, method
    for method in ("fitnet", "at", "crd", "vid", "l2sp"):
        assert "more than their embeddings and logits" in str(reason(method))
    assert "logistic-regression fits them" in str(reason("linear-probe"))
    assert "share no class" in str(reason("kd"))


@pytest.mark.parametrize("name", EMBEDDED)
def test_tasks_of_every_data_set_are_disjoint(name: str) -> None:
    data = DATASETS.get(name).entry(Path())
    match = PROTOCOLS.get("middleshot-5way5shot")
    settings = match.entry.Settings(queries=4) if name == "tiny" else match.entry.Settings()
    protocol = match.entry(match.name, settings, match.fields)
    protocol.check(data)
    base, first = protocol.tasks(data)
    assert not set(base.classes) & set(first.classes)
    assert len(first.train) == 25
    assert not set(data.groups[first.train]) & set(data.groups[first.held_out])


def test_tasks_follow_the_seed_and_never_the_method(teachers: Path) -> None:
    hashes = {run_plan(teachers, plan(teachers, m), s).facts["episodes_hash"] for m in ("ce", "ncm") for s in (0, 1)}
    assert len(hashes) == 2


def test_group_size_changes_results_by_rounding_only(teachers: Path, monkeypatch: Any) -> None:
    made = plan(teachers, "refilled", "training.steps=12", "student.start=teacher")
    whole = run_plan(teachers, made)
    monkeypatch.setattr("benchmark.training.trainer.train_students", partial(train_students, max_pixels=1))
    single = run_plan(teachers, made)
    assert np.abs(whole.arrays["correct_student"] - single.arrays["correct_student"]).max() <= 1
    assert [row["stage"] for row in whole.student.metadata["history"]] == [
        row["stage"] for row in single.student.metadata["history"]
    ]
    for a, b in zip(whole.student.metadata["history"], single.student.metadata["history"], strict=True):
        assert {k: v for k, v in a.items() if k != "stage"} == pytest.approx(
            {k: v for k, v in b.items() if k != "stage"}, rel=1e-2
        )


def test_students_start_from_a_network_of_their_own_backbone(teachers: Path) -> None:
    made = plan(teachers, "finetune", "training.lr=1e-9", "teacher.backbone=conv4-32")
    found = run_plan(teachers, made)
    spec = made.spec(0)
    same = dataclasses.replace(spec, teacher=dataclasses.replace(spec.teacher, backbone="conv4-16"))
    origin = Trainer(same, TeacherStore(teachers / "teachers"), DEVICE, Silent()).get_teacher(found.teacher.task)
    for own, start in zip(
        found.student.network.backbone.parameters(), origin.network.backbone.parameters(), strict=True
    ):
        assert torch.allclose(own, start, atol=1e-5)
    assert found.student.metadata["backbone"] == "conv4-16"
    assert found.teacher.metadata["backbone"] == "conv4-32"


def test_logistic_regression_agrees_with_scikit_learn(teachers: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    for ways in (2, 3):
        made = plan(teachers, "logistic-regression", name=f"middleshot-{ways}way2shot")
        assert isinstance(made.protocol, MiddleShot)
        found = run_plan(teachers, made)
        trainer = make_trainer(teachers, made)
        drawn = made.protocol.episodes(made.data, 0)

        def unit(images: Any, trainer: Trainer = trainer, run: Result = found) -> Any:
            rows = trainer.embed(run.teacher, run.teacher.task.data, images.ravel()).double().numpy()
            return rows / np.linalg.norm(rows, axis=1, keepdims=True)

        for t in range(6):
            fitted = LogisticRegression(max_iter=1000).fit(unit(drawn.support[t]), np.repeat(np.arange(ways), 2))
            right = (fitted.predict(unit(drawn.query[t])) == np.repeat(np.arange(ways), 4)).sum()
            assert abs(int(right) - int(found.arrays["correct_student"][t])) <= 1


def test_poisoned_queries_change_no_student_and_poisoned_support_does(teachers: Path, tiny: ImageSet) -> None:
    """Poisoned queries change no weight; poisoned support images do."""
    made = plan(teachers, "ce", "training.steps=10")
    assert isinstance(made.protocol, MiddleShot)
    drawn = made.protocol.episodes(tiny, 0)
    clean = run_plan(teachers, made)
    for part, changes in ((np.setdiff1d(drawn.query, drawn.support), False), (drawn.support.ravel(), True)):
        images = tiny.images.copy()
        images[part] = 255 - images[part]
        made = dataclasses.replace(made, data=dataclasses.replace(tiny, images=images))
        poisoned = run_plan(teachers, made).student.network
        same = all(
            torch.equal(a, b) for a, b in zip(clean.student.network.parameters(), poisoned.parameters(), strict=True)
        )
        assert same != changes


def test_students_learn_their_tasks_and_shuffled_labels_fall_to_chance(tmp_path: Path, monkeypatch: Any) -> None:
    learns = ("training.steps=40", "training.batch_size=10", "protocol.tasks=12", "teacher.steps=60")
    made = plan(tmp_path, "ce", *learns, name="middleshot-3way5shot")
    assert isinstance(made.protocol, MiddleShot)
    assert run_plan(tmp_path, made).score.value > 0.7
    drawn = made.protocol.episodes(made.data, 0)
    mixed = np.random.default_rng(0).permuted(drawn.support.reshape(12, -1), axis=1).reshape(drawn.support.shape)
    monkeypatch.setattr(made.protocol, "episodes", lambda *_: dataclasses.replace(drawn, support=mixed))
    assert abs(run_plan(tmp_path, made).score.value - 1 / 3) < 0.15


def test_student_of_ncm_needs_the_teachers_backbone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the student is the teacher"):
        plan(tmp_path, "ncm", "student.backbone=conv4-16", "teacher.backbone=conv4-32")


@pytest.mark.parametrize("method", ["finetune", "ncm"])
def test_estimate_counts_every_student(tmp_path: Path, method: str) -> None:
    work = estimate(plan(tmp_path, method), [0, 1], store=Store(tmp_path), data_root=tmp_path, device=DEVICE)["work"]
    assert work["students_per_seed"] == 6
    assert work["student_steps_per_seed"] == (18 if method == "finetune" else 0)
    assert work["milliseconds_per_teacher_step"] > 0
    assert (work["milliseconds_per_student_step"] > 0) is (method == "finetune")
    assert not list(tmp_path.rglob("*.safetensors"))
