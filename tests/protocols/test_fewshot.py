from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.data import ImageSet
from benchmark.errors import InputError
from benchmark.experiment.planning import Plan
from protocols import Result

from ..smoke import run_plan, smoke_plan

LEARNT = ("training.steps=200", "training.lr=0.1")
"""Enough to learn by, at the untuned rate: what tuning has chosen is chosen on other data."""


def plan(
    root: Path, method: str = "ce", overrides: tuple[str, ...] = (), protocol: str = "fewshot-5way1shot", **options: Any
) -> Plan:
    return smoke_plan(root, protocol, method, "protocol.episodes=400", "protocol.queries=5", *overrides, **options)


def test_run_evaluates_student_teacher_and_pixels(tmp_path: Path) -> None:
    made = plan(tmp_path, "kd", overrides=(*LEARNT, "teacher.steps=200"))
    found = run_plan(tmp_path, made)
    scores = {"student": found.score, **found.references}
    assert set(scores) == {"student", "teacher", "pixels"}
    for name, score in scores.items():
        correct = found.arrays[f"correct_{name}"]
        assert score.value == pytest.approx(correct.mean() / 25)
        assert [i.kind for i in score.intervals] == ["episode", "image", "class"]
        apart = found.arrays[f"disjoint_correct_{name}"] / 25
        assert score.intervals[1].mean == pytest.approx(apart.mean())
        assert score.intervals[1].n == len(apart) >= 4
    assert found.n == len(found.arrays["classes"]) == 400
    assert scores["teacher"].value > scores["student"].value > scores["pixels"].value + 0.05
    assert scores["pixels"].value > 0.25


def test_shuffled_training_labels_fall_to_the_accuracy_of_pixels(tmp_path: Path) -> None:
    made = plan(tmp_path, overrides=(*LEARNT, "teacher.steps=2"))
    labels = made.data.labels.copy()
    base = made.data.indices_of(made.data.splits["train"])
    labels[base] = np.random.default_rng(0).permutation(labels[base])
    made = dataclasses.replace(made, data=ImageSet(**{**vars_of(made.data), "labels": labels}))
    found = run_plan(tmp_path, made)
    assert found.score.value < found.references["pixels"].value + 0.05


def test_novel_classes_are_never_trained_on(tmp_path: Path) -> None:
    made = plan(tmp_path, "kd", limit_steps=2)
    found = run_plan(tmp_path, made)
    for trained in (found.student, found.teacher):
        assert set(trained.task.classes) == set(made.data.splits["train"])
        assert not set(made.data.labels[trained.task.train]) & set(made.data.splits["test"])
    assert set(np.unique(found.arrays["classes"])) == set(made.data.splits["test"])


def test_poisoned_novel_images_change_neither_teacher_nor_student(tmp_path: Path) -> None:
    """Poisoned test images leave both networks as they are, bit for bit."""
    made = plan(tmp_path, "refilled", limit_steps=3)
    clean = run_plan(tmp_path / "clean", made)
    novel = made.data.indices_of(made.data.splits["test"])
    poisoned = made.data.images.copy()
    poisoned[novel] = 255 - poisoned[novel]
    made = dataclasses.replace(made, data=ImageSet(**{**vars_of(made.data), "images": poisoned}))
    other = run_plan(tmp_path / "poisoned", made)
    for name in ("student", "teacher"):
        a, b = getattr(clean, name).network.state_dict(), getattr(other, name).network.state_dict()
        assert all((a[key] == b[key]).all() for key in a)


def vars_of(data: ImageSet) -> dict[str, Any]:
    names = ("name", "images", "labels", "groups", "classes", "splits", "background", "flip_invariant")
    return {name: getattr(data, name) for name in names}


def test_episodes_follow_protocol_data_and_seed_alone(tmp_path: Path) -> None:
    hashes = {
        label: run_plan(tmp_path, made, seed).facts["episodes_hash"]
        for label, made, seed in (
            ("ce", plan(tmp_path, limit_steps=1), 0),
            ("kd", plan(tmp_path, "kd", ("training.lr=0.01",), limit_steps=2), 0),
            ("seed", plan(tmp_path, limit_steps=1), 1),
            ("shots", plan(tmp_path, protocol="fewshot-5way2shot", limit_steps=1), 0),
        )
    }
    assert hashes["ce"] == hashes["kd"]
    assert len(set(hashes.values())) == 3


def test_head_and_split_are_settings(tmp_path: Path) -> None:
    def run(*overrides: str) -> Result:
        return run_plan(tmp_path, plan(tmp_path, overrides=overrides, limit_steps=20))

    base, euclidean, val = run(), run("protocol.head=euclidean"), run("protocol.split=val")
    assert base.score.value != euclidean.score.value
    assert set(np.unique(val.arrays["classes"])) == set(plan(tmp_path).data.splits["val"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fewshot-7way1shot", "the split has 6"),
        ("fewshot-5way20shot", "needs? more images"),
        ("fewshot-1way1shot", "2 ways"),
    ],
)
def test_impossible_protocols_raise_with_the_numbers(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(tmp_path, protocol=name)
