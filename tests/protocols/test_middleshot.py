from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.data import DATASETS, ImageSet
from benchmark.errors import InputError
from benchmark.experiment.estimation import estimate
from benchmark.experiment.runner import Plan, Request, transfer_context
from benchmark.methods import METHODS
from benchmark.records.store import Store
from benchmark.system.progress import Silent
from benchmark.training import TeacherStore, Trainer, select_device
from protocols import PROTOCOLS
from protocols.base import Result
from protocols.middleshot import MiddleShot

from ..embedded import EMBEDDED

DEVICE = select_device("cpu", "float32")
SMOKE = ("protocol.tasks=6", "protocol.queries=4", "protocol.crops=2", "training.batch_size=6", "teacher.batch_size=16",
         "teacher.steps=5", "training.steps=3")  # fmt: skip


def plan(root: Path, method: str, *overrides: str, name: str = "middleshot-3way2shot") -> Plan:
    given = {item.partition("=")[0]: item for item in (*SMOKE, *overrides)}
    return Plan(Request(name, method, "tiny", overrides=tuple(given.values())), root)


def result(root: Path, made: Plan, seed: int = 0) -> Result:
    trainer = Trainer(made.spec(seed), TeacherStore(root / "teachers"), DEVICE, Silent())
    return made.protocol.run(made.data, trainer, seed)


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bank")


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
def test_impossible_tasks_are_told(tmp_path: Path, name: str, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(tmp_path, "ce", *overrides, name=name)


def test_the_name_alone_tells_which_methods_apply() -> None:
    def reason(method: str) -> str | None:
        entry = METHODS.get(method).entry
        return entry.skip_reason(transfer_context("middleshot-5way5shot", entry))

    for method in ("ce", "finetune", "rkd", "pkt", "refilled", "refilled-cvpr20", "ncm", "logistic-regression"):
        assert reason(method) is None, method
    for method in ("fitnet", "at", "crd", "vid", "l2sp"):
        assert "more of each than embedding and logits" in str(reason(method))
    assert "logistic-regression fits them" in str(reason("linear-probe"))
    assert "share no class" in str(reason("kd"))


@pytest.mark.parametrize("name", EMBEDDED)
def test_every_data_set_carries_it(name: str) -> None:
    data = DATASETS.get(name).entry(Path())
    match = PROTOCOLS.get("middleshot-5way5shot")
    settings = match.entry.Settings(queries=4) if name == "tiny" else match.entry.Settings()
    protocol = match.entry(match.name, settings, match.fields)
    protocol.check(data)
    base, first = protocol.tasks(data)
    assert not set(base.classes) & set(first.classes)
    assert len(first.train) == 25
    assert not set(data.groups[first.train]) & set(data.groups[first.held_out])


@pytest.mark.parametrize("method", METHODS.names())
def test_every_method_that_applies_runs(teachers: Path, method: str) -> None:
    entry = METHODS.get(method).entry
    try:
        made = plan(teachers, method)
    except InputError as error:
        assert "does not apply" in str(error)  # noqa: PT017
        return
    found = result(teachers, made)
    assert found.n == 6
    counts = found.arrays["correct_student"]
    assert found.score.value == pytest.approx(np.mean(counts / 12))
    assert [i.kind for i in found.score.intervals] == ["episode", "class"]
    assert set(found.references) == {"teacher", "pixels"}
    assert found.student.facts["steps"] == (3 if entry.needs.trains != "nothing" else 0)
    assert found.student.facts["students"] == 6
    if method == "ncm":  # one shot more than one: unit means, where the references' are not scaled
        assert abs(found.score.value - found.references["teacher"].value) < 0.1


def test_tasks_follow_the_seed_and_never_the_method(teachers: Path) -> None:
    hashes = {result(teachers, plan(teachers, m), s).facts["episodes_hash"] for m in ("ce", "ncm") for s in (0, 1)}
    assert len(hashes) == 2


def test_a_task_does_not_depend_on_how_many_are_kept_at_a_time(teachers: Path, monkeypatch: Any) -> None:
    made = plan(teachers, "refilled", "training.steps=12", "student.start=teacher")
    whole = result(teachers, made)
    original = Trainer.students

    def few(self: Trainer, *args: Any) -> Any:
        return original(self, *args, held=1)

    monkeypatch.setattr(Trainer, "students", few)
    single = result(teachers, made)
    assert np.abs(whole.arrays["correct_student"] - single.arrays["correct_student"]).max() <= 1
    assert [row["stage"] for row in whole.student.facts["history"]] == [
        row["stage"] for row in single.student.facts["history"]
    ]
    for a, b in zip(whole.student.facts["history"], single.student.facts["history"], strict=True):
        assert {k: v for k, v in a.items() if k != "stage"} == pytest.approx(
            {k: v for k, v in b.items() if k != "stage"}, rel=1e-2
        )


def test_students_start_from_a_network_of_their_own_backbone(teachers: Path) -> None:
    made = plan(teachers, "finetune", "training.lr=1e-9")
    found = result(teachers, made)
    shop = Trainer(made.spec(0), TeacherStore(teachers / "teachers"), DEVICE, Silent())
    origin = shop.teacher(found.teacher.task, "conv4-16")
    for own, start in zip(
        found.student.network.backbone.parameters(), origin.network.backbone.parameters(), strict=True
    ):
        assert torch.allclose(own, start, atol=1e-5)
    assert found.student.facts["backbone"] == "conv4-16"
    assert found.teacher.facts["backbone"] == "conv4-64"


def test_logistic_regression_is_that_of_the_library(teachers: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    for ways in (2, 3):
        made = plan(teachers, "logistic-regression", name=f"middleshot-{ways}way2shot")
        assert isinstance(made.protocol, MiddleShot)
        found = result(teachers, made)
        shop = Trainer(made.spec(0), TeacherStore(teachers / "teachers"), DEVICE, Silent())
        drawn = made.protocol.episodes(made.data, 0)

        def unit(images: Any, shop: Trainer = shop, run: Result = found) -> Any:
            rows = shop.embed(run.teacher, run.teacher.task.data, images.ravel()).double().numpy()
            return rows / np.linalg.norm(rows, axis=1, keepdims=True)

        for t in range(6):
            fitted = LogisticRegression(max_iter=1000).fit(unit(drawn.support[t]), np.repeat(np.arange(ways), 2))
            right = (fitted.predict(unit(drawn.query[t])) == np.repeat(np.arange(ways), 4)).sum()
            assert abs(int(right) - int(found.arrays["correct_student"][t])) <= 1


def test_the_first_crop_is_the_image_and_support_decides(teachers: Path, tiny: ImageSet) -> None:
    """Queries poisoned: nothing learnt changes. Support poisoned: it does."""
    made = plan(teachers, "ce", "training.steps=10")
    assert isinstance(made.protocol, MiddleShot)
    drawn = made.protocol.episodes(tiny, 0)
    clean = result(teachers, made)
    for part, changes in ((np.setdiff1d(drawn.query, drawn.support), False), (drawn.support.ravel(), True)):
        images = tiny.images.copy()
        images[part] = 255 - images[part]
        made.data = dataclasses.replace(tiny, images=images)
        poisoned = result(teachers, made).student.network
        same = all(
            torch.equal(a, b) for a, b in zip(clean.student.network.parameters(), poisoned.parameters(), strict=True)
        )
        assert same != changes


def test_students_learn_their_tasks_and_shuffled_labels_fall_to_chance(tmp_path: Path, monkeypatch: Any) -> None:
    learns = ("training.steps=40", "training.batch_size=10", "protocol.tasks=12", "teacher.steps=60")
    made = plan(tmp_path, "ce", *learns, name="middleshot-3way5shot")
    assert isinstance(made.protocol, MiddleShot)
    assert result(tmp_path, made).score.value > 0.7
    drawn = made.protocol.episodes(made.data, 0)
    mixed = np.random.default_rng(0).permuted(drawn.support.reshape(12, -1), axis=1).reshape(drawn.support.shape)
    monkeypatch.setattr(made.protocol, "episodes", lambda *_: dataclasses.replace(drawn, support=mixed))
    assert abs(result(tmp_path, made).score.value - 1 / 3) < 0.15


def test_a_student_that_is_the_teacher_has_its_backbone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the student is the teacher"):
        plan(tmp_path, "ncm", "student.backbone=conv4-16")


@pytest.mark.parametrize("method", ["finetune", "ncm"])
def test_an_estimate_counts_every_student(tmp_path: Path, method: str) -> None:
    work = estimate(plan(tmp_path, method), [0, 1], store=Store(tmp_path), data_root=tmp_path, device=DEVICE)["work"]
    assert work["students_per_seed"] == 6
    assert work["student_steps_per_seed"] == (18 if method == "finetune" else 0)
    assert work["milliseconds_per_teacher_step"] > 0
    assert (work["milliseconds_per_student_step"] > 0) is (method == "finetune")
    assert not list(tmp_path.rglob("*.safetensors"))
