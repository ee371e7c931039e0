from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.data import DATASETS, ImageSet
from benchmark.data.herding import herd
from benchmark.data.task import split_by_group
from benchmark.errors import InputError
from benchmark.experiment.planning import Plan, transfer_context
from benchmark.methods import METHODS
from benchmark.training import Trainer
from protocols import PROTOCOLS
from protocols.base import Result
from protocols.incremental import harmonic_mean

from ..embedded import EMBEDDED
from ..smoke import make_trainer, run_plan, smoke_plan

LEARNT = (
    "training.batch_size=32", "teacher.batch_size=32", "training.steps=120", "teacher.steps=120", "training.lr=0.1",
)  # fmt: skip


def plan(root: Path, exemplars: int, method: str, *overrides: str, **options: Any) -> Plan:
    return smoke_plan(root, f"incremental-1step-{exemplars}exemplars", method, *overrides, **options)


def learnt(root: Path, exemplars: int, method: str, *overrides: str) -> Result:
    return run_plan(root, plan(root, exemplars, method, *LEARNT, *overrides))


@pytest.mark.parametrize(
    ("exemplars", "overrides", "message"),
    [
        (13, (), r"13 exemplars per class: class .* of tiny has \d+ training images"),
        (4, ("protocol.old=30",), r"protocol\.old = 30: tiny has 30 classes"),
        (0, ("protocol.head=ncm",), r"protocol\.head = ncm needs exemplars"),
        (4, ("protocol.rebalance=maybe",), r"protocol\.rebalance"),
    ],
)
def test_impossible_settings_raise(tmp_path: Path, exemplars: int, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(tmp_path, exemplars, "ce", *overrides)


def test_transfer_context_follows_from_the_name() -> None:
    def reason(exemplars: int, method: str) -> str | None:
        entry = METHODS.get(method).entry
        return entry.skip_reason(transfer_context(f"incremental-1step-{exemplars}exemplars", entry))

    assert "without exemplars" in str(reason(0, "icarl"))
    assert reason(5, "icarl") is None
    assert "own label space" in str(reason(5, "dkd"))
    assert reason(0, "kd") is None
    assert reason(0, "refilled") is None


@pytest.mark.parametrize("name", EMBEDDED)
def test_tasks_of_every_data_set_are_disjoint_and_complete(name: str) -> None:
    data = DATASETS.get(name).entry(Path())
    match = PROTOCOLS.get("incremental-1step-5exemplars")
    protocol = match.entry(match.name, match.entry.Settings(), match.fields)
    protocol.check(data)
    teacher, student = protocol.tasks(data)
    assert student.classes[: len(teacher.classes)] == teacher.classes
    assert sorted(student.classes) == list(range(len(data.classes)))
    assert len(teacher.classes) == len(data.classes) // 2
    trained = set(data.groups[teacher.train]) | set(data.groups[student.train])
    assert not trained & set(data.groups[student.held_out])
    counts = np.bincount(student.labels(student.train))
    assert counts[: len(teacher.classes)].tolist() == [5] * len(teacher.classes)
    new = set(student.classes) - set(teacher.classes)
    train = split_by_group(data, test=0.4, val=0.2)["train"]
    assert sum(counts[len(teacher.classes) :]) == np.isin(data.labels[train], list(new)).sum()


def test_metrics_come_from_the_saved_predictions(teachers: Path) -> None:
    found = learnt(teachers, 4, "replay")
    labels, predicted = found.arrays["labels"], found.arrays["predicted_student"]
    assert np.array_equal(found.arrays["classes"][labels], found.student.task.data.labels[found.arrays["images"]])
    old, new = (float(np.mean(predicted[side] == labels[side])) for side in (labels < 15, labels >= 15))
    values = {name: score.value for name, score in found.references.items()}
    assert found.score.value == pytest.approx(np.mean(predicted == labels))
    assert values["old"] == pytest.approx(old)
    assert values["new"] == pytest.approx(new)
    assert values["harmonic"] == pytest.approx(2 * old * new / (old + new))
    teacher_old = np.mean(found.arrays["predicted_teacher"] == labels[labels < 15])
    assert values["teacher_old"] == pytest.approx(teacher_old) == pytest.approx(found.teacher.metadata["accuracy"])
    assert values["old_within_old"] >= old
    assert found.n == len(labels) == len(found.student.task.held_out)
    assert found.facts["exemplars_held"] == 60
    assert harmonic_mean(0.0, 0.0) == 0


def test_exemplars_are_herded_with_the_teacher(teachers: Path) -> None:
    made = plan(teachers, 3, "replay", limit_steps=3)
    trainer = make_trainer(teachers, made)
    found = run_plan(teachers, made)
    task, data = found.student.task, made.data
    train = split_by_group(data, test=0.4, val=0.2)["train"]
    for c in found.teacher.task.classes:
        pool = train[data.labels[train] == c]
        expected = pool[herd(trainer.embed(found.teacher, data, pool).numpy(), 3)]
        assert set(task.train[data.labels[task.train] == c]) == set(expected)


def test_memory_of_the_method_chooses_old_images(teachers: Path) -> None:
    def images(method: str) -> tuple[int, int]:
        found = run_plan(teachers, plan(teachers, 3, method, limit_steps=2))
        labels = found.student.task.labels(found.student.task.train)
        return int((labels < 15).sum()), int((labels >= 15).sum())

    joint, replay, finetune = images("joint"), images("replay"), images("finetune")
    assert replay == (45, joint[1])
    assert finetune == (0, joint[1])
    assert joint[0] > 100


def test_rebalance_aligns_the_head_or_adds_a_balanced_stage(teachers: Path) -> None:
    made = {how: plan(teachers, 3, "kd", f"protocol.rebalance={how}", limit_steps=10) for how in ("none", "align")}
    plain, aligned = (run_plan(teachers, m).student.network.head.weight for m in made.values())
    assert torch.equal(plain[:15], aligned[:15])
    assert float(aligned[15:].norm(dim=1).mean()) == pytest.approx(float(plain[:15].norm(dim=1).mean()), rel=1e-5)
    assert not torch.allclose(plain[15:], aligned[15:])
    balanced = run_plan(teachers, plan(teachers, 3, "kd", "protocol.rebalance=balanced", limit_steps=10)).student
    assert balanced.metadata["steps"] == 10
    assert [row["stage"] for row in balanced.metadata["history"]].count("balanced") == 3


def test_balanced_stage_continues_the_loss_of_the_last_stage(teachers: Path) -> None:
    def terms(method: str, *settings: str) -> set[str]:
        made = plan(teachers, 3, method, "protocol.rebalance=balanced", *settings, limit_steps=10)
        history = run_plan(teachers, made).student.metadata["history"]
        return {name for row in history if row["stage"] == "balanced" for name in row} - {"stage", "step"}

    assert terms("fitnet", "method.form=two-stage") == {"ce", "kd"}
    assert terms("refilled", "method.embedding_share=1", "protocol.head=ncm") == {"tuples"}
    assert terms("refilled") == {"ce", "local"}


def test_nearest_mean_heads_equal_a_plain_loop(teachers: Path) -> None:
    """``ncm`` uses all training images, ``nme`` as many exemplars of every class."""
    for head in ("ncm", "nme"):
        made = plan(teachers, 3, "replay", f"protocol.head={head}", limit_steps=4)
        trainer = make_trainer(teachers, made)
        found = run_plan(teachers, made)
        task, data = found.student.task, made.data

        def unit(images: Any, trainer: Trainer = trainer, run: Result = found) -> Any:
            rows = trainer.embed(run.student, run.student.task.data, images).double().numpy()
            return rows / np.linalg.norm(rows, axis=1, keepdims=True)

        means = []
        for number, c in enumerate(task.classes):
            pool = task.train[data.labels[task.train] == c]
            if head == "nme" and number >= 15:
                pool = pool[herd(unit(pool).astype(np.float32), 3)]
            mean = unit(pool).mean(0)
            means.append(mean / np.linalg.norm(mean))
        expected = (unit(task.held_out) @ np.stack(means).T).argmax(1)
        assert np.mean(expected == found.arrays["predicted_student"]) > 0.99
    assert run_plan(teachers, plan(teachers, 3, "icarl", limit_steps=2)).facts["head"] == "nme"


def test_class_means_include_mirror_images_where_they_are_of_the_class(teachers: Path) -> None:
    made = plan(teachers, 3, "replay", "protocol.head=nme", limit_steps=4)
    assert not made.data.flip_invariant
    mirrored = dataclasses.replace(made, data=dataclasses.replace(made.data, flip_invariant=True))
    off = plan(teachers, 3, "replay", "protocol.head=nme", "protocol.mirrored_means=false", limit_steps=4)
    without = dataclasses.replace(off, data=mirrored.data)
    trainer, found = make_trainer(teachers, mirrored), run_plan(teachers, mirrored)
    scores = {
        name: p.protocol.scores(p.data, trainer, found.student, "nme", {})  # type: ignore[attr-defined]
        for name, p in {"plain": made, "mirrored": mirrored, "off": without}.items()
    }
    assert np.array_equal(scores["plain"], scores["off"], equal_nan=True)
    assert not np.array_equal(scores["plain"], scores["mirrored"], equal_nan=True)

    task, data = found.student.task, mirrored.data
    pool = task.train[data.labels[task.train] == task.classes[-1]]

    def unit(images: Any, **how: bool) -> Any:
        rows = trainer.embed(found.student, data, images, **how).double().numpy()
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    chosen = pool[herd(unit(pool).astype(np.float32), 3)]
    flipped = dataclasses.replace(data, images=np.ascontiguousarray(data.images[:, :, ::-1]), flip_invariant=False)
    assert np.allclose(
        trainer.embed(found.student, data, chosen, mirrored=True).numpy(),
        trainer.embed(found.student, flipped, chosen).numpy(), atol=1e-5,
    )  # fmt: skip
    mean = (unit(chosen).mean(0) + unit(chosen, mirrored=True).mean(0)) / 2
    expected = unit(task.held_out) @ (mean / np.linalg.norm(mean))
    assert np.allclose(scores["mirrored"][:, -1], expected, atol=1e-5)


def test_a_teacher_may_learn_by_binary_cross_entropy(teachers: Path) -> None:
    made = {loss: plan(teachers, 3, "icarl", f"teacher.loss={loss}", limit_steps=3) for loss in ("ce", "bce")}
    assert "loss" not in made["ce"].spec(0).config()["teacher"]
    assert made["bce"].spec(0).config()["teacher"]["loss"] == "bce"
    found = {loss: run_plan(teachers, p).teacher for loss, p in made.items()}
    assert found["ce"].metadata["key"] != found["bce"].metadata["key"]
    facts = json.loads((teachers / "teachers" / found["bce"].metadata["key"] / "teacher.json").read_text())
    assert set(facts["history"][0]) == {"stage", "step", "bce"}


def test_a_teacher_may_have_milestones_of_its_own(teachers: Path) -> None:
    shared = plan(teachers, 3, "ce", "training.milestones=0.5", limit_steps=3)
    own = plan(teachers, 3, "ce", "training.milestones=0.5", "teacher.milestones=0.3,0.6", "teacher.decay=0.2")
    task = shared.protocol.tasks(shared.data, 0)[0]
    from benchmark.training.teacher import _recipe

    recipes = [_recipe(p.spec(0), task, "conv4-16")["training"] for p in (shared, own)]
    assert [(r["milestones"], r.get("decay", 0.1)) for r in recipes] == [("0.5", 0.1), ("0.3,0.6", 0.2)]
    with pytest.raises(InputError, match=r"teacher\.milestones = '0\.6,0\.3': not ascending"):
        plan(teachers, 3, "ce", "teacher.milestones=0.6,0.3")


def test_lucir_starts_from_the_teachers_rows_and_imprints_the_new(teachers: Path) -> None:
    made = plan(teachers, 3, "lucir", "training.lr=1e-9", limit_steps=1)
    found = run_plan(teachers, made)
    rows, task = found.student.network.head.weight, found.student.task
    normalise = torch.nn.functional.normalize
    assert torch.allclose(rows[:15], normalise(found.teacher.network.head.weight, dim=1), atol=1e-5)
    trainer = make_trainer(teachers, made)
    new = task.train[made.data.labels[task.train] == task.classes[-1]]
    mean = normalise(trainer.embed(found.teacher, made.data, new), dim=1).mean(0)
    assert torch.allclose(rows[-1], normalise(mean, dim=0), atol=1e-5)


def test_a_fresh_student_may_have_a_larger_foreign_teacher(teachers: Path) -> None:
    foreign = ("student.start=fresh", "teacher.backbone=conv4-32", "student.backbone=conv4-16")
    found = run_plan(teachers, plan(teachers, 3, "refilled", *foreign, limit_steps=4))
    assert found.student.metadata["start"] == "fresh"
    with pytest.raises(InputError, match=r"conv4-32, not conv4-16"):
        plan(teachers, 3, "wa", *foreign)


def test_head_from_the_teacher_is_not_reset(teachers: Path) -> None:
    """REFILLED's second stage asks for a new head; a student with the teacher's head keeps it."""
    found = run_plan(teachers, plan(teachers, 0, "refilled", "training.lr=1e-9", limit_steps=4))
    kept = found.student.network.head.weight[:15]
    assert torch.allclose(kept, found.teacher.network.head.weight, atol=1e-5)


def test_poisoned_test_images_change_only_their_own_predictions(tmp_path: Path) -> None:
    made = plan(tmp_path, 3, "refilled", "protocol.head=nme", limit_steps=10)
    clean = run_plan(tmp_path / "clean", made)
    images = made.data.images.copy()
    side = split_by_group(made.data, test=0.4, val=0.2)["test"]
    images[side] = 255 - images[side]
    made = dataclasses.replace(made, data=dataclasses.replace(made.data, images=images))
    poisoned = run_plan(tmp_path / "poisoned", made)
    for name in ("student", "teacher"):
        a, b = (getattr(found, name).network.state_dict() for found in (clean, poisoned))
        assert all(torch.equal(value, b[key]) for key, value in a.items())
    assert np.array_equal(clean.student.task.train, poisoned.student.task.train)
    assert not np.array_equal(clean.arrays["predicted_student"], poisoned.arrays["predicted_student"])


def test_without_exemplars_finetuning_loses_the_old_classes(teachers: Path) -> None:
    found = learnt(teachers, 0, "finetune")
    assert found.references["teacher_old"].value > 0.6
    assert found.references["old"].value < 0.05
    assert found.references["new"].value > 0.5


@pytest.mark.slow
def test_joint_training_is_the_upper_bound(teachers: Path) -> None:
    joint = learnt(teachers, 4, "joint").score
    noise = 2 * (joint.intervals[0].half_width or 0)
    for method in ("finetune", "replay", "lwf", "icarl", "eeil", "wa", "lucir", "kd", "refilled"):
        assert learnt(teachers, 4, method).score.value <= joint.value + noise, method


def test_distillation_keeps_what_finetuning_forgets(teachers: Path) -> None:
    kept = {m: learnt(teachers, 0, m).references["old_within_old"].value for m in ("finetune", "lwf")}
    assert kept["lwf"] > kept["finetune"] + 0.2


def test_shuffled_labels_fall_to_chance(tmp_path: Path, tiny: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(tmp_path, 4, "replay", *LEARNT)
    labels = tiny.labels.copy()
    train = split_by_group(tiny, test=0.4, val=0.2)["train"]
    new = set(made.protocol.classes(tiny)[1])  # type: ignore[attr-defined]
    for side in (True, False):  # within old and within new classes, so that each keeps its images
        own = train[np.isin(tiny.labels[train], list(new)) == side]
        labels[own] = labels[own][np.random.default_rng(1).permutation(len(own))]
    sides = split_by_group(tiny, test=0.4, val=0.2)  # of the true labels
    made = dataclasses.replace(made, data=dataclasses.replace(tiny, labels=labels))

    monkeypatch.setattr("protocols.splits.split_images", lambda *_: sides)
    found = run_plan(tmp_path, made)
    assert found.score.value < 0.12
