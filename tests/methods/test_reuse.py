"""Methods that reuse the teacher's weights: start, trained part, applicability."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.backbones.network import Network
from benchmark.checks.toy import make_toy
from benchmark.data import ImageSet, Task
from benchmark.data.task import hold_out
from benchmark.errors import InputError
from benchmark.experiment.estimation import estimate
from benchmark.experiment.planning import make_plan
from benchmark.experiment.request import Request
from benchmark.methods import METHODS, Batch, Stage, TransferContext
from benchmark.records.store import Store
from benchmark.system.progress import Silent
from benchmark.training import TeacherStore, TrainedNetwork, Trainer, embed, select_device

DEVICE = select_device("cpu", "float32")
ALIKE = ("student.backbone=conv4-32", "teacher.backbone=conv4-32")


def make(
    root: Path, method: str, teacher_task: Task, student_task: Task, *overrides: str, steps: int = 12
) -> tuple[TrainedNetwork, TrainedNetwork]:
    """Train a teacher and a student on two tasks."""
    brief = ("teacher.steps=12", "teacher.batch_size=16", f"training.steps={steps}", "training.batch_size=16")
    request = Request("fewshot-5way1shot", method, "tiny", overrides=(*ALIKE, *brief, *overrides))
    trainer = Trainer(make_plan(request, root).spec(0), TeacherStore(root / "teachers"), DEVICE, Silent())
    teacher = trainer.get_teacher(teacher_task)
    return teacher, trainer.train_student(student_task, teacher)


@pytest.fixture
def tasks(tiny: ImageSet) -> tuple[Task, Task]:
    """Overlapping tasks: classes a b c d e f for the teacher, c d e f g h for the student, in another order."""
    classes = tiny.splits["train"][:8]
    student = (classes[6], *classes[2:6][::-1], classes[7])
    return hold_out(tiny, classes[:6], 0.25), hold_out(tiny, student, 0.25)


def same(a: Network, b: Network) -> bool:
    theirs = b.backbone.state_dict()
    return all(torch.equal(value, theirs[key]) for key, value in a.backbone.state_dict().items())


@pytest.mark.parametrize("name", ["finetune", "l2sp"])
def test_finetuned_student_starts_from_the_teacher_by_class_identity(
    tmp_path: Path, tasks: tuple[Task, Task], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    entry, heads = METHODS.get(name).entry, []
    prepare = entry.prepare

    def keep(self: object, student: Network, *rest: object) -> None:
        heads.append(student.head.weight.detach().clone())
        prepare(self, student, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(entry, "prepare", keep)
    teacher, student = make(tmp_path, name, *tasks, "training.lr=1e-12")
    for row, c in enumerate(tasks[1].classes):
        wanted = heads[0][row] if c not in tasks[0].classes else teacher.network.head.weight[tasks[0].classes.index(c)]
        assert torch.equal(heads[0][row], wanted)
    assert len(set(tasks[0].classes) & set(tasks[1].classes)) == 4
    moved = zip(student.network.backbone.parameters(), teacher.network.backbone.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in moved)
    assert student.normalisation == teacher.normalisation
    assert student.metadata["steps"] == 12


def test_finetune_changes_the_student_only(tmp_path: Path, tasks: tuple[Task, Task]) -> None:
    teacher, _ = make(tmp_path, "rkd", *tasks)
    before = {key: value.clone() for key, value in teacher.network.state_dict().items()}
    again, student = make(tmp_path, "finetune", *tasks)
    assert not same(student.network, again.network)
    assert all(torch.equal(value, again.network.state_dict()[key]) for key, value in before.items())


def test_linear_probe_trains_the_head_only(tmp_path: Path, tasks: tuple[Task, Task]) -> None:
    teacher, student = make(tmp_path, "linear-probe", *tasks, steps=60)
    assert same(student.network, teacher.network)
    assert student.metadata["steps"] == 60
    assert student.metadata["history"][-1]["ce"] < student.metadata["history"][0]["ce"]
    assert student.normalisation == teacher.normalisation


@pytest.mark.parametrize("head", ["normalised", "euclidean"])
def test_ncm_assigns_to_the_nearest_mean(tmp_path: Path, tasks: tuple[Task, Task], head: str) -> None:
    """Distances to means by a loop over classes."""
    teacher, student = make(tmp_path, "ncm", *tasks, f"method.head={head}")
    assert same(student.network, teacher.network)
    assert (student.metadata["steps"], student.metadata["images"], student.metadata["history"]) == (0, 0, [])
    task = tasks[1]

    def features(indices: np.ndarray) -> torch.Tensor:
        x = embed(teacher.network, task.data, indices, teacher.normalisation, DEVICE)
        return x / x.norm(dim=1, keepdim=True) if head == "normalised" else x

    means = []
    for label in range(len(task.classes)):
        mean = features(task.train[task.labels(task.train) == label]).mean(0)
        means.append(mean / mean.norm() if head == "normalised" else mean)
    nearest = torch.cdist(features(task.held_out), torch.stack(means)).argmin(1)
    assert student.metadata["accuracy"] == np.mean(nearest.numpy() == task.labels(task.held_out))
    assert student.metadata["accuracy"] > 2 / 6


def test_l2sp_equals_its_formula() -> None:
    toy = make_toy("l2sp", start=0.3, head=0.7)
    start = [p.detach().clone() for p in toy.student.backbone.parameters()]
    assert toy.terms(Stage())["start"].item() == 0.0
    with torch.no_grad():
        for p in toy.student.backbone.parameters():
            p.add_(0.01 * torch.randn_like(p))
    terms = toy.terms(Stage())
    moved = sum((p - s).pow(2).sum() for p, s in zip(toy.student.backbone.parameters(), start, strict=True))
    assert torch.allclose(terms["start"], 0.15 * moved)
    assert torch.allclose(terms["head"], 0.35 * (toy.student.head.weight**2).sum() + 0.35 * (toy.student.head.bias**2).sum())  # fmt: skip # noqa: E501
    assert set(make_toy("l2sp", start=0.0, head=0.0).terms(Stage())) == {"ce"}


def test_skip_reason_names_both_backbones(tmp_path: Path) -> None:
    for name in ("finetune", "l2sp"):
        with pytest.raises(
            InputError, match=rf"{name} does not apply .* conv4-64, not conv4-16; set student\.backbone"
        ):
            make_plan(Request("fewshot-5way1shot", name, "tiny"), tmp_path)
        assert METHODS.get(name).entry.skip_reason(TransferContext("disjoint", "conv4-16", "conv4-16")) is None


@pytest.mark.parametrize("name", ["linear-probe", "ncm"])
def test_frozen_student_has_the_teachers_backbone(tmp_path: Path, name: str) -> None:
    plan = make_plan(Request("fewshot-5way1shot", name, "tiny", overrides=("teacher.backbone=conv4-32",)), tmp_path)
    assert plan.spec(0).student.backbone == "conv4-32"
    assert plan.spec(0).preset == "quick"
    other = Request("fewshot-5way1shot", name, "tiny", overrides=("student.backbone=conv4-16",))
    with pytest.raises(InputError, match="the student is the teacher"):
        make_plan(other, tmp_path)


def test_estimate_of_an_untrained_method_has_no_steps(tmp_path: Path) -> None:
    plan = make_plan(Request("fewshot-5way1shot", "ncm", "tiny", limit_steps=2), tmp_path)
    work = estimate(plan, [0], store=Store(tmp_path / "runs"), data_root=tmp_path, device=DEVICE)["work"]
    assert work["student_steps_per_seed"] == 0


def test_fitnet_in_two_stages_needs_a_shared_class() -> None:
    entry = METHODS.get("fitnet").entry
    apart = TransferContext("disjoint", "conv4-16", "conv4-64")
    two = entry.Settings(form="two-stage")
    assert entry.skip_reason(apart) is None
    assert entry.skip_reason(apart, entry.Settings()) is None
    assert "share no class" in str(entry.skip_reason(apart, two))
    assert entry.skip_reason(TransferContext("overlap", "conv4-16", "conv4-64"), two) is None


def test_ncm_has_no_loss() -> None:
    toy = make_toy("ncm")
    batch = Batch(toy.labels, torch.arange(24), "train", 0.0)
    with pytest.raises(NotImplementedError):
        toy.method.loss(batch, toy.student(toy.images), None)
