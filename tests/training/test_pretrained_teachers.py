"""Runs whose teacher is pretrained, with classes of its own."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.backbones.network import build_network
from benchmark.data import ImageSet
from benchmark.data.augmentation import Normalisation
from benchmark.errors import InputError
from benchmark.experiment.estimation import estimate
from benchmark.experiment.planning import Plan, make_plan
from benchmark.experiment.request import Request
from benchmark.experiment.runner import RunContext, run
from benchmark.experiment.verification import reproduce
from benchmark.methods import METHODS
from benchmark.records.schema import Record
from benchmark.records.store import Store
from benchmark.system.progress import Silent
from benchmark.training import TeacherStore, Trainer

from ..smoke import DEVICE, kind_of

SMOKE = ("training.batch_size=16", "protocol.split=test")
CROSS, FEW, MIDDLE, ADDED = (
    "distill-cross",
    "fewshot-5way1shot",
    "middleshot-5way1shot",
    "incremental-1step-5exemplars",
)
SMALL = {FEW: ("protocol.episodes=40", "protocol.queries=4"), MIDDLE: ("protocol.tasks=6", "protocol.crops=3")}


def save_teacher(folder: Path, seed: int = 0, channels: int = 3, data: str = "f" * 64, dataset: str = "emoji") -> Path:
    """Save a network for 10 classes of another data set, with images of 24 x 24."""
    network = build_network("conv4-32", channels=channels, size=24, classes=10, seed=seed)
    facts = {
        "recipe": {"backbone": "conv4-32"},
        "classes": [f"class {c}" for c in range(10)],
        "input": {
            "data": data,
            "dataset": dataset,
            "size": 24,
            "channels": channels,
            "mean": [0.4] * channels,
            "std": [0.2] * channels,
        },
    }
    TeacherStore(folder).get("made", network, lambda: facts)
    return folder / "made" / "weights.safetensors"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_teacher(tmp_path_factory.mktemp("downloaded"))


def make(root: Path, teacher: Path, protocol: str, method: str, *overrides: str, limit: int | None = 3) -> Plan:
    overrides = (*SMOKE, *SMALL.get(protocol, ()), f"teacher.backbone={teacher}", *overrides)
    return make_plan(Request(protocol, method, "tiny", overrides=overrides, limit_steps=limit), root)


def go(root: Path, plan: Plan, seed: int = 0, **options: Any) -> Record:
    store = Store(root / "runs")
    (record,) = run(plan, [seed], RunContext(store, root, DEVICE, Silent(), **options))
    assert record["status"] == "done", record
    kept = store.find(record["key"])
    assert kept is not None
    return kept


def measured(root: Path, record: Record) -> tuple[Any, ...]:
    arrays = Store(root / "runs").arrays(record)
    return record["value"], record["history"], record["references"], {k: v.tolist() for k, v in arrays.items()}


def test_record_describes_the_pretrained_teacher(tmp_path: Path, teacher: Path) -> None:
    plan = make(tmp_path, teacher, CROSS, "refilled")
    record = go(tmp_path, plan)
    facts = record["teacher_facts"]
    assert re.fullmatch(r"conv4-32@[0-9a-f]{8}", record["teacher"])
    assert record["teacher"] == facts["backbone"] == f"conv4-32@{facts['weights_sha256'][:8]}"
    assert (facts["pretrained"], facts["labels"], facts["accuracy"], facts["seconds"]) == (True, "disjoint", None, 0.0)
    assert (facts["weights"], facts["size"], facts["classes"]) == ("weights.safetensors", 24, 10)
    assert facts["parameters"] == build_network("conv4-32", channels=3, size=24, classes=10, seed=0).parameter_count
    assert record["config"]["teacher"] == {"backbone": record["teacher"], "size": 24}
    assert record["config"]["pretrained"] == {"weights": facts["weights_sha256"], "mean": [0.4] * 3, "std": [0.2] * 3}
    assert record["facts"]["classes_shared"] == 0
    assert record["facts"]["teacher_training_images"] is None
    assert record["preset"] == "quick+training.batch_size=16+training.steps=3"
    assert str(teacher.parent) not in json.dumps(record)
    assert "train_weights" not in Store(tmp_path / "runs").arrays(record)


def test_key_depends_on_the_weights_and_not_on_their_path(tmp_path: Path, teacher: Path) -> None:
    key = make(tmp_path, teacher, CROSS, "rkd").spec(0).key
    moved = shutil.copy(teacher, tmp_path / "moved.safetensors")
    assert make(tmp_path, moved, CROSS, "rkd").spec(0).key == key
    other = make(tmp_path, save_teacher(tmp_path, seed=1), CROSS, "rkd")
    larger = make(tmp_path, teacher, CROSS, "rkd", "teacher.size=25")
    assert len({key, other.spec(0).key, larger.spec(0).key}) == 3
    own = make(tmp_path, teacher, CROSS, "rkd", "teacher.size=24")
    assert own.spec(0) == make(tmp_path, teacher, CROSS, "rkd").spec(0)
    assert larger.spec(0).preset.endswith("+teacher.size=25+training.batch_size=16+training.steps=3")
    assert go(tmp_path, larger)["teacher_facts"]["size"] == 25


def test_config_of_a_trained_teacher_has_no_pretrained_fields(tmp_path: Path) -> None:
    plan = make_plan(Request(CROSS, "rkd", "tiny"), tmp_path)
    assert plan.spec(0).config()["teacher"] == {
        "backbone": "conv4-64", "seed": 0, "steps": 500, "batch_size": 64, "lr": 0.1, "weight_decay": 5e-4
    }  # fmt: skip


def start_of(method: str, teacher: Path) -> list[str]:
    """Return settings with which the student of a method may start beside a pretrained teacher."""
    needs = METHODS.get(method).entry.needs
    by_start = {"fresh": ["student.start=fresh", "student.backbone=conv4-16"], "any": ["student.start=fresh"]}
    return by_start.get(needs.start, [f"student.backbone={teacher}"]) if needs.trains == "all" else []


@pytest.mark.parametrize("protocol", [CROSS, ADDED])
def test_methods_that_compare_classes_do_not_apply(tmp_path: Path, teacher: Path, protocol: str) -> None:
    for method in METHODS.names():
        needs = METHODS.get(method).entry.needs
        if needs.labels == "any" and needs.learns != "episodes":
            make(tmp_path, teacher, protocol, method, *start_of(method, teacher))
            continue
        with pytest.raises(InputError, match=r"class by class|adds classes|learns from episodes"):
            make(tmp_path, teacher, protocol, method, *start_of(method, teacher))


KINDS = {kind_of(name): name for name in reversed(METHODS.names()) if METHODS.get(name).entry.needs.labels == "any"}


@pytest.mark.parametrize("method", [name for kind, name in KINDS.items() if kind.learns == "batches"])
@pytest.mark.parametrize("protocol", [CROSS, ADDED])
def test_one_method_of_each_kind_runs(tmp_path: Path, teacher: Path, protocol: str, method: str) -> None:
    record = go(tmp_path, make(tmp_path, teacher, protocol, method, *start_of(method, teacher)))
    needs = METHODS.get(method).entry.needs
    assert (record["backbone"] == record["teacher"]) == (needs.start == "teacher")
    references = {CROSS: {"teacher_ncm", "chance"}, ADDED: {"old", "new", "old_within_old", "harmonic"}}
    assert set(record["references"]) == references[protocol]
    assert "pretrained" in (record["beside"] if record["teacher"] == "none" else record["config"])


def test_pretrained_teacher_shares_no_class_with_the_student(tmp_path: Path, teacher: Path) -> None:
    """A trained teacher of these protocols has the classes of the student."""
    for protocol in ("distill-same", FEW):
        with pytest.raises(InputError, match="teacher and student share no class"):
            make(tmp_path, teacher, protocol, "kd")
        with pytest.raises(InputError, match="the teacher's own label space"):
            make(tmp_path, teacher, protocol, "dkd")
    assert go(tmp_path, make(tmp_path, teacher, "distill-same", "refilled"))["facts"]["classes_shared"] == 0


def test_parallel_students_refuse_a_pretrained_backbone(tmp_path: Path, teacher: Path) -> None:
    with pytest.raises(
        InputError, match=r"cannot be trained in parallel .* middleshot-5way1shot does: .*PreprocessedBackbone"
    ):
        go(tmp_path, make(tmp_path, teacher, MIDDLE, "finetune", f"student.backbone={teacher}"))
    record = go(tmp_path, make(tmp_path, teacher, MIDDLE, "ncm"))
    assert record["value"] == pytest.approx(record["references"]["teacher"]["value"], abs=0.05)


def test_method_for_added_classes_refuses_a_pretrained_teacher(tmp_path: Path, teacher: Path) -> None:
    with pytest.raises(InputError, match=r"lwf does not apply .* this teacher has classes of its own"):
        make(tmp_path, teacher, ADDED, "lwf")


def test_align_works_with_a_pretrained_teacher(tmp_path: Path, teacher: Path) -> None:
    fresh = ("student.start=fresh", "protocol.rebalance=align")
    plan = make(tmp_path, teacher, ADDED, "rkd", *fresh)
    trainer = Trainer(plan.spec(0), TeacherStore(tmp_path / "teachers"), DEVICE, Silent())
    old, task = plan.protocol.tasks(plan.data)
    weight = trainer.train_student(task, trainer.get_teacher(old), "align").network.head.weight
    known = torch.tensor([c in old.classes for c in task.classes])
    assert weight[known].norm(dim=1).mean().item() == pytest.approx(weight[~known].norm(dim=1).mean().item())


def test_pretrained_teacher_gets_its_own_input_size_and_statistics(
    tmp_path: Path, teacher: Path, tiny: ImageSet
) -> None:
    """Images of 16 x 16 are enlarged to 24 x 24 and normalised by the teacher's statistics."""
    plan = make(tmp_path, teacher, CROSS, "rkd")
    trainer = Trainer(plan.spec(0), TeacherStore(tmp_path / "teachers"), DEVICE, Silent())
    made = trainer.get_teacher(plan.protocol.tasks(plan.data)[0])
    own = build_network("conv4-32", channels=3, size=24, classes=10, seed=0).eval()
    images = torch.from_numpy(tiny.images[[3, 700]]).permute(0, 3, 1, 2) / 255
    enlarged = torch.nn.functional.interpolate(images, (24, 24), mode="bicubic", antialias=True)
    expected = own.embed((enlarged - 0.4) / 0.2).detach()
    assert torch.allclose(trainer.embed(made, plan.data, np.array([3, 700])), expected, atol=1e-4)
    assert made.classes == ()
    assert not made.network.training
    assert not any(p.requires_grad for p in made.network.parameters())


def test_cached_and_computed_outputs_of_a_pretrained_teacher_agree(tmp_path: Path, teacher: Path) -> None:
    """A method that reads stages gets computed outputs; they agree with the cached ones."""
    seen: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    entry = METHODS.get("rkd").entry
    for reads_stages in seen:

        class Looking(entry):  # type: ignore[misc, valid-type]
            needs = METHODS.get("at" if reads_stages else "rkd").entry.needs
            kept = seen[reads_stages]

            def loss(self, batch: Any, student: Any, teacher: Any) -> Any:
                self.kept.append(torch.cat([teacher.embedding, teacher.logits], 1))
                assert bool(teacher.stages) == (self.needs.taps != ())
                return super().loss(batch, student, teacher)

        plan = make(tmp_path, teacher, CROSS, "rkd")
        trainer = Trainer(plan.spec(0), TeacherStore(tmp_path / "teachers"), DEVICE, Silent())
        old, task = plan.protocol.tasks(plan.data)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "benchmark.training.initialisation.METHODS.get", lambda _: type("Found", (), {"entry": Looking})
            )
            trainer.train_student(task, trainer.get_teacher(old))
    assert len(seen[True]) == len(seen[False]) == 3
    for computed, remembered in zip(seen[True], seen[False], strict=True):
        assert torch.allclose(computed, remembered, atol=1e-3)


@pytest.mark.parametrize("protocol", [CROSS, FEW, MIDDLE])
def test_embedding_cache_changes_no_result(tmp_path: Path, teacher: Path, protocol: str) -> None:
    plan = make(tmp_path, teacher, protocol, "refilled", limit=6)
    cold = go(tmp_path, plan)
    assert cold["teacher_facts"]["views_computed"] > 0
    expected = measured(tmp_path, cold)
    warm = go(tmp_path, plan, mode="force")
    assert warm["teacher_facts"]["views_computed"] == 0
    assert measured(tmp_path, warm) == expected
    shutil.rmtree(tmp_path / "teachers")
    other = go(tmp_path, make(tmp_path, teacher, protocol, "rkd", limit=4))
    mixed = go(tmp_path, plan, mode="force")
    assert other["teacher_facts"]["views_computed"] > 0
    assert mixed["teacher_facts"]["views_computed"] < cold["teacher_facts"]["views_computed"]
    assert measured(tmp_path, mixed) == expected


def test_run_is_reproduced_if_the_weights_are_named(tmp_path: Path, teacher: Path) -> None:
    plan = make(tmp_path, teacher, CROSS, "finetune", f"student.backbone={teacher}")
    record = go(tmp_path, plan)
    arrays = Store(tmp_path / "runs").arrays(record)
    with pytest.raises(
        InputError, match=r"conv4-32@[0-9a-f]{8} stands for weights in a file; name the file with --teacher"
    ):
        reproduce(record, arrays, tmp_path, "cpu", Silent(), fresh_teacher=False)
    again = reproduce(record, arrays, tmp_path, "cpu", Silent(), teacher=str(teacher), fresh_teacher=True)
    assert again.equal, again.lines
    other = str(save_teacher(tmp_path, seed=1))
    with pytest.raises(InputError, match=r"would not run what .* records: .*weights"):
        reproduce(record, arrays, tmp_path, "cpu", Silent(), teacher=other, fresh_teacher=False)


def test_a_grey_teacher_teaches_about_colours(tmp_path: Path) -> None:
    assert go(tmp_path, make(tmp_path, save_teacher(tmp_path / "grey", channels=1), CROSS, "refilled"))["value"] >= 0


def test_student_may_start_from_a_pretrained_teacher(tmp_path: Path, teacher: Path) -> None:
    plan = make(tmp_path, teacher, CROSS, "finetune", f"student.backbone={teacher}", "training.lr=1e-12")
    trainer = Trainer(plan.spec(0), TeacherStore(tmp_path / "teachers"), DEVICE, Silent())
    old, task = plan.protocol.tasks(plan.data)
    made = trainer.get_teacher(old)
    student = trainer.train_student(task, made)
    for own, theirs in zip(student.network.backbone.parameters(), made.network.backbone.parameters(), strict=True):
        assert torch.allclose(own, theirs, atol=1e-6)
    assert student.network.head.out_features == len(task.classes)
    assert student.normalisation == Normalisation((0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize(
    ("method", "overrides", "message"),
    [
        ("kd", (), "kd does not apply to distill-cross: .* share no class"),
        ("refilled", ("teacher.steps=5",), r"teacher\.steps does not apply: .* is pretrained"),
        ("refilled", ("teacher.size=-1",), r"teacher\.size = '-1'"),
        ("fitnet", (), r"no regressor leads from a student map \(16, 4, 4\) to a teacher map \(32, 6, 6\)"),
        ("finetune", (), r"which is conv4-32@[0-9a-f]{8}, not conv4-16; set student\.backbone="),
        ("refilled", ("student.backbone=TEACHER",), "the student of refilled starts untrained"),
        ("refilled", ("student.backbone=efficientnet-lite0",), "only be the same if --teacher names it"),
    ],
)
def test_settings_that_do_not_fit_raise(
    tmp_path: Path, teacher: Path, method: str, overrides: tuple[str, ...], message: str
) -> None:
    overrides = tuple(text.replace("TEACHER", str(teacher)) for text in overrides)
    with pytest.raises(InputError, match=message):
        go(tmp_path, make(tmp_path, teacher, CROSS, method, *overrides))


def test_settings_of_pretrained_teachers_are_refused_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"teacher\.size is for pretrained teachers"):
        make_plan(Request(CROSS, "ce", "tiny", overrides=("teacher.size=64",)), tmp_path)
    with pytest.raises(InputError, match="unknown backbone 'efficient-lite0'; did you mean 'efficientnet-lite0'"):
        make_plan(Request(CROSS, "ce", "tiny", overrides=("teacher.backbone=efficient-lite0",)), tmp_path)
    with pytest.raises(InputError, match="cannot read the weights nowhere"):
        make_plan(Request(CROSS, "ce", "tiny", overrides=("teacher.backbone=nowhere.safetensors",)), tmp_path)


def test_a_teacher_of_the_same_data_set_is_refused(tmp_path: Path, tiny: ImageSet) -> None:
    known = save_teacher(tmp_path, data=tiny.fingerprint)
    with pytest.raises(InputError, match="was trained on tiny itself"):
        make(tmp_path, known, FEW, "refilled")


def test_a_teacher_trained_here_can_be_taken_elsewhere(tmp_path: Path) -> None:
    """The stored file names its data set, its input and its classes."""
    go(tmp_path, make_plan(Request(CROSS, "rkd", "tiny", overrides=SMOKE, limit_steps=2), tmp_path))
    (weights,) = (tmp_path / "teachers").glob("*/weights.safetensors")
    plan = make_plan(
        Request(CROSS, "rkd", "emoji", overrides=(f"teacher.backbone={weights}",), limit_steps=2), tmp_path
    )
    found = plan.spec(0).pretrained
    assert found is not None
    assert (found.name[:9], found.size) == ("conv4-64@", 16)
    with pytest.raises(InputError, match="was trained on tiny itself"):
        make_plan(Request(CROSS, "rkd", "tiny", overrides=(f"teacher.backbone={weights}",)), tmp_path)


def test_an_estimate_has_no_teacher_to_train(tmp_path: Path, teacher: Path) -> None:
    plan = make(tmp_path, teacher, CROSS, "refilled")
    work = estimate(plan, [0], store=Store(tmp_path / "runs"), data_root=tmp_path, device=DEVICE)["work"]
    assert work["teacher_steps_to_train"] == work["milliseconds_per_teacher_step"] == 0
    assert work["milliseconds_per_student_step"] > 0
    assert not (tmp_path / "teachers").exists()
