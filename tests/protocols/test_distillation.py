from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.data import DATASETS, ImageSet, Task
from benchmark.data.task import split_by_group
from benchmark.errors import InputError
from benchmark.experiment.planning import Plan, make_plan, transfer_context
from benchmark.experiment.request import Request
from benchmark.methods import METHODS
from benchmark.training import TrainedNetwork, class_means, principal_components
from protocols import PROTOCOLS, Result
from protocols.base import unequal_class_scores
from protocols.splits import class_order

from ..embedded import EMBEDDED
from ..smoke import make_trainer, run_plan, smoke_plan

NAMES = ("distill-same", "distill-overlap50", "distill-cross")


def centres(root: Path, made: Plan, found: Result) -> torch.Tensor:
    task = found.student.task
    embeddings = make_trainer(root, made).embed(found.teacher, task.data, task.train)
    return class_means(embeddings, task.labels(task.train), len(task.classes))


def weights_equal(a: TrainedNetwork, b: TrainedNetwork) -> bool:
    mine, other = a.network.state_dict(), b.network.state_dict()
    return mine.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in mine.items())


def arrays_equal(a: Result, b: Result) -> bool:
    return a.arrays.keys() == b.arrays.keys() and all(np.array_equal(v, b.arrays[k]) for k, v in a.arrays.items())


@pytest.mark.parametrize(
    ("name", "shared"),
    [("distill-cross", 0), ("distill-overlap0", 0), ("distill-overlap20", 3), ("distill-overlap50", 7),
     ("distill-overlap80", 12), ("distill-overlap100", 15), ("distill-same", 15)],
)  # fmt: skip
def test_teacher_and_student_share_what_the_name_says(tmp_path: Path, name: str, shared: int) -> None:
    """Both have 15 of the 30 classes; in the class order, the student's begin with the shared ones."""
    made = smoke_plan(tmp_path, name)
    order = class_order(made.data, "distillation")
    teacher, student = (task.classes for task in made.protocol.tasks(made.data))
    assert sorted(order) == list(range(30))
    assert order != tuple(range(30))
    assert teacher == order[:15]
    assert student == order[15 - shared : 30 - shared]
    assert len(set(teacher) & set(student)) == shared
    relation = {0: "disjoint", 15: "same"}.get(shared, "overlap")
    assert transfer_context(name, METHODS.get("ce").entry).label_relation == relation


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("distill-overlap101", (), r"overlap of 101 % .* 0\.\.100"),
        ("distill-overlap3", (), r"3 % of the 15 classes .* rounds to 0; take distill-cross"),
        ("distill-overlap7", (), r"7 % of the 15 classes .* rounds to 1; take distill-cross"),
        ("distill-overlap98", (), r"98 % of the 15 classes .* rounds to 15; take distill-same"),
        ("distill-overlap-5", (), "unknown protocol"),
        ("distill-overlap", (), "unknown protocol 'distill-overlap'; did you mean"),
        ("distill-same", ("protocol.images_per_class=13",), r"images_per_class = 13: class .* has 12 training images"),
        ("distill-same", ("protocol.test=0.99",), r"12 groups of images, which test = 0\.99 and val = 0\.2 do not"),
        ("distill-same", ("protocol.val=0.01",), r"12 groups of images, which test = 0\.4 and val = 0\.01 do not"),
        ("distill-same", ("protocol.images_per_class=-1",), "protocol.images_per_class"),
    ],
)
def test_impossible_protocols_raise_with_the_numbers(
    tmp_path: Path, name: str, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        smoke_plan(tmp_path, name, "ce", *overrides)


def test_too_few_classes_raise(tiny: ImageSet) -> None:
    kept = tiny.indices_of(range(3))
    small = dataclasses.replace(
        tiny, images=tiny.images[kept], labels=tiny.labels[kept], groups=tiny.groups[kept],
        classes=tiny.classes[:3], splits={"train": (0, 1, 2)},
    )  # fmt: skip
    match = PROTOCOLS.get("distill-same")
    with pytest.raises(InputError, match="needs at least 4 classes, data set tiny has 3"):
        match.entry("distill-same", match.entry.Settings(), match.fields).check(small)


@pytest.fixture(scope="module", params=EMBEDDED)
def data(request: pytest.FixtureRequest) -> ImageSet:
    return DATASETS.get(request.param).entry(Path())


@pytest.mark.parametrize("name", NAMES)
def test_tasks_of_every_data_set_share_no_group_between_splits(data: ImageSet, name: str) -> None:
    match = PROTOCOLS.get(name)
    made = [match.entry(name, match.entry.Settings(split=split), match.fields) for split in ("test", "val")]
    for protocol in made:
        protocol.check(data)
    (teacher, student), (teacher_val, student_val) = (protocol.tasks(data) for protocol in made)
    trained = set(data.groups[teacher.train]) | set(data.groups[student.train])
    tested = set(data.groups[teacher.held_out]) | set(data.groups[student.held_out])
    validated = set(data.groups[teacher_val.held_out]) | set(data.groups[student_val.held_out])
    assert not trained & tested
    assert not trained & validated
    assert not tested & validated
    assert np.array_equal(student.train, student_val.train)
    assert np.array_equal(teacher.train, teacher_val.train)
    for task in (teacher, student, teacher_val, student_val):
        assert set(task.labels(task.train)) == set(task.labels(task.held_out)) == set(range(len(task.classes)))
    assert np.bincount(student.labels(student.train)).tolist() == [2] * len(student.classes)
    every = set(teacher.train) | set(teacher.held_out) | set(teacher_val.held_out)
    assert every == set(data.indices_of(teacher.classes))


def test_the_number_of_classes_may_be_set(tmp_path: Path, tiny: ImageSet) -> None:
    """All classes make standard distillation; half of them is the default and gives the same key."""
    every = smoke_plan(tmp_path, "distill-same", "ce", "protocol.classes=30")
    teacher, student = every.protocol.tasks(tiny)
    assert set(teacher.classes) == set(student.classes) == set(range(30))
    some = smoke_plan(tmp_path, "distill-overlap50", "ce", "protocol.classes=20").protocol.tasks(tiny)
    assert [len(task.classes) for task in some] == [20, 20]
    assert len({c for task in some for c in task.classes}) == 30
    half = smoke_plan(tmp_path, "distill-same", "ce", "protocol.classes=0").spec(0)
    assert half.key == smoke_plan(tmp_path, "distill-same").spec(0).key != every.spec(0).key
    for name, classes, taken in (("distill-same", 31, 31), ("distill-cross", 16, 32), ("distill-overlap50", 21, 31)):
        with pytest.raises(InputError, match=f"classes = {classes}: {name} takes {taken} classes then.* has 30"):
            smoke_plan(tmp_path, name, "ce", f"protocol.classes={classes}")


def test_seeds_draw_the_students_images_and_nothing_else(tmp_path: Path) -> None:
    made = smoke_plan(tmp_path, "distill-overlap50")
    (teacher, a), (teacher_again, b) = (made.protocol.tasks(made.data, seed) for seed in (0, 1))
    assert teacher.key == teacher_again.key
    assert a.classes == b.classes
    assert np.array_equal(a.held_out, b.held_out)
    assert not np.array_equal(a.train, b.train)
    everything = smoke_plan(tmp_path, "distill-overlap50", "ce", "protocol.images_per_class=0").protocol.tasks(
        made.data
    )[1]
    sides = split_by_group(made.data, test=0.4, val=0.2)
    own = sides["train"][np.isin(made.data.labels[sides["train"]], a.classes)]
    assert sorted(everything.train) == own.tolist()
    assert set(a.train) | set(b.train) < set(own)


def test_run_evaluates_student_teacher_and_chance(tmp_path: Path) -> None:
    learns = ("training.steps=60", "teacher.steps=60", "protocol.images_per_class=5")
    made = smoke_plan(tmp_path, "distill-cross", "rkd", *learns)
    found = run_plan(tmp_path, made)
    labels = found.arrays["labels"]
    assert found.n == len(labels) == len(found.arrays["images"]) == 150
    assert np.array_equal(found.arrays["classes"][labels], made.data.labels[found.arrays["images"]])
    assert found.score.value == pytest.approx(np.mean(found.arrays["predicted_student"] == labels))
    assert found.score.value == pytest.approx(found.student.metadata["accuracy"])
    assert [i.kind for i in found.score.intervals] == ["image"]
    assert set(found.references) == {"teacher_ncm", "chance"}
    assert found.references["chance"].value == 1 / 15
    assert found.score.value > 0.3
    assert found.teacher.metadata["accuracy"] > 0.3
    facts = {key: found.facts[key] for key in ("images_per_class", "training_images", "classes", "classes_shared")}
    assert facts == {"images_per_class": 5, "training_images": 75, "classes": 15, "classes_shared": 0}
    assert len(found.facts["class_order_hash"]) == 64

    task = found.student.task
    embed = make_trainer(tmp_path, made).embed
    train, held_out = (embed(found.teacher, made.data, i).double().numpy() for i in (task.train, task.held_out))
    unit = [x / np.linalg.norm(x) for x in train]
    means = [np.mean([x for x, y in zip(unit, task.labels(task.train), strict=True) if y == k], 0) for k in range(15)]
    nearest = [np.argmax([x @ m / np.linalg.norm(x) / np.linalg.norm(m) for m in means]) for x in held_out]
    assert found.arrays["predicted_teacher_ncm"].tolist() == nearest
    assert found.references["teacher_ncm"].value == pytest.approx(np.mean(nearest == labels))
    assert found.references["teacher_ncm"].value > 0.3


@pytest.mark.parametrize(
    ("method", "weights"), [("kd", ["method.kd=0.9"]), ("refilled", ["method.tuple_weight=1000", "method.local=1"])]
)
def test_overlap_of_100_percent_equals_distill_same_bit_for_bit(
    tmp_path: Path, method: str, weights: list[str]
) -> None:
    """The settings are equal here; tuning chooses them for each protocol."""
    names = "distill-same", "distill-overlap100"
    made = {n: smoke_plan(tmp_path, n, method, "training.lr=0.1", *weights, limit_steps=6) for n in names}
    same, full = (run_plan(tmp_path / name, m) for name, m in made.items())
    assert weights_equal(same.student, full.student)
    assert weights_equal(same.teacher, full.teacher)
    assert arrays_equal(same, full)
    assert same.score == full.score
    assert same.references == full.references
    other = run_plan(tmp_path / "distill-same", made["distill-same"], seed=1)
    assert not weights_equal(same.student, other.student)


@pytest.mark.parametrize("split", ["test", "val"])
def test_poisoned_test_images_change_neither_networks_nor_class_means(tmp_path: Path, split: str) -> None:
    """Poisoned test images change their own predictions; if validation images are evaluated, they change nothing."""
    made = smoke_plan(tmp_path, "distill-overlap50", "refilled", f"protocol.split={split}", limit_steps=20)
    clean = run_plan(tmp_path / "clean", made)
    clean_centres = centres(tmp_path, made, clean)
    images = made.data.images.copy()
    side = split_by_group(made.data, test=0.4, val=0.2)["test"]
    images[side] = 255 - images[side]
    made = dataclasses.replace(made, data=dataclasses.replace(made.data, images=images))
    poisoned = run_plan(tmp_path / "poisoned", made)
    assert weights_equal(clean.student, poisoned.student)
    assert weights_equal(clean.teacher, poisoned.teacher)
    assert torch.equal(clean_centres, centres(tmp_path, made, poisoned))
    assert arrays_equal(clean, poisoned) == (split == "val")
    assert (clean.teacher.metadata["accuracy"] == poisoned.teacher.metadata["accuracy"]) == (split == "val")


def test_kd_applies_where_classes_are_shared(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"kd does not apply to distill-cross: .* share no class"):
        smoke_plan(tmp_path, "distill-cross", "kd")
    smoke_plan(tmp_path, "distill-overlap50", "kd")
    with pytest.raises(InputError, match=r"dkd does not apply to distill-overlap50: .* the teacher's own label space"):
        smoke_plan(tmp_path, "distill-overlap50", "dkd")
    smoke_plan(tmp_path, "distill-same", "dkd")


def test_transfer_context_follows_from_the_name() -> None:
    def reason(protocol: str, method: str) -> str | None:
        entry = METHODS.get(method).entry
        return entry.skip_reason(transfer_context(protocol, entry))

    assert "share no class" in str(reason("distill-cross", "kd"))
    assert "share no class" in str(reason("distill-overlap0", "kd"))
    assert reason("distill-overlap50", "kd") is None
    assert "own label space" in str(reason("distill-overlap50", "dkd"))
    assert reason("distill-overlap100", "dkd") is None
    assert reason("distill-cross", "refilled") is None
    with pytest.raises(InputError, match="101 %"):
        reason("distill-overlap101", "ce")


def test_a_published_order_of_classes_is_followed(tiny: ImageSet) -> None:
    order = tuple(reversed(range(30)))
    ordered = dataclasses.replace(tiny, orders={"distillation": order})
    match = PROTOCOLS.get("distill-cross")
    teacher, student = match.entry("distill-cross", match.entry.Settings(), match.fields).tasks(ordered)
    assert teacher.classes + student.classes == order
    with pytest.raises(InputError, match="order for distillation must name every class once"):
        dataclasses.replace(tiny, orders={"distillation": (0, 1)})


def test_student_with_an_untrained_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leave the head untrained"):
        smoke_plan(tmp_path, "distill-cross", "refilled", "method.embedding_share=1")
    with pytest.raises(InputError, match="leave the head untrained"):
        smoke_plan(tmp_path, "distill-cross", "fitnet", "method.form=two-stage", "method.hint_share=1")
    make_plan(Request("fewshot-5way1shot", "refilled", "tiny", overrides=("method.embedding_share=1",)), tmp_path)


def test_a_student_may_start_from_the_teacher(tmp_path: Path) -> None:
    alike = ("student.start=teacher", "teacher.backbone=conv4-32", "student.backbone=conv4-32")
    with pytest.raises(InputError, match=r"takes its backbone.*or student\.start=fresh"):
        smoke_plan(tmp_path, "distill-same", "kd", *alike[:2])
    made = smoke_plan(tmp_path, "distill-same", "kd", *alike, "training.lr=1e-9", limit_steps=2)
    assert made.spec(0).preset.count("student.start=teacher") == 1
    found = run_plan(tmp_path, made)
    for own, theirs in zip(found.student.network.parameters(), found.teacher.network.parameters(), strict=True):
        assert torch.allclose(own, theirs, atol=1e-5)
    fresh = smoke_plan(tmp_path, "distill-same", "ce", *alike, limit_steps=2)
    assert run_plan(tmp_path, fresh).student.metadata["start"] == "fresh"


def test_shuffled_training_labels_fall_to_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = smoke_plan(tmp_path, "distill-same", "kd", "training.steps=80", "teacher.steps=80")
    learnt = run_plan(tmp_path, made).score.value

    teacher, student = made.protocol.tasks(made.data)
    labels = made.data.labels.copy()
    labels[teacher.train] = np.random.default_rng(0).permutation(labels[teacher.train])
    shuffled = dataclasses.replace(made.data, labels=labels)
    tasks = tuple(Task(shuffled, t.classes, t.train, t.held_out) for t in (teacher, student))
    monkeypatch.setattr(made.protocol, "tasks", lambda *_: tasks)
    found = run_plan(tmp_path, made)
    chance = found.references["chance"].value
    for score in (found.score, found.references["teacher_ncm"]):
        assert abs(score.value - chance) < 3 * np.sqrt(chance * (1 - chance) / found.n)
    assert learnt > 0.4


def test_a_near_perfect_teacher_lets_refilled_beat_cross_entropy_by_far(tmp_path: Path) -> None:
    """70 % of the student's training labels are wrong; the teacher has learnt from correct ones."""
    learns = ("training.steps=200", "teacher.steps=250", "training.batch_size=32", "teacher.batch_size=32",
              "protocol.images_per_class=0", "teacher.backbone=conv4-32")  # fmt: skip
    values = {}
    for method, settings in (("ce", ()), ("refilled", ("method.local=3",))):
        made = make_plan(Request("distill-same", method, "tiny", overrides=(*learns, *settings)), tmp_path)
        teacher, student = made.protocol.tasks(made.data)
        rng, labels = np.random.default_rng(0), made.data.labels.copy()
        wrong = student.train[rng.random(len(student.train)) < 0.7]
        labels[wrong] = rng.choice(student.classes, len(wrong))
        noisy = Task(dataclasses.replace(made.data, labels=labels), student.classes, student.train, student.held_out)
        made.protocol.tasks = lambda *_, found=(teacher, noisy): found  # type: ignore[method-assign]
        found = run_plan(tmp_path, made)
        assert found.teacher.metadata["accuracy"] > 0.95
        values[method] = found.score.value
    assert values["refilled"] > values["ce"] + 0.15


def test_arrays_hold_projections_of_some_evaluated_images(teachers: Path) -> None:
    """Embeddings of 10 of the 15 classes by both networks, on 16 axes."""
    made = smoke_plan(teachers, "distill-same", "kd", limit_steps=2)
    found = run_plan(teachers, made)
    rows = found.arrays["projected"]
    kept = found.arrays["labels"][rows]
    assert len(np.unique(kept)) == 10
    assert np.bincount(kept)[np.unique(kept)].max() <= 20
    for name, trained in (("student", found.student), ("teacher", found.teacher)):
        projected = found.arrays[f"projected_{name}"]
        embeddings = make_trainer(teachers, made).embed(trained, made.data, found.arrays["images"][rows])
        assert projected.shape == (len(rows), 16)
        assert np.array_equal(projected, principal_components(embeddings, 16))


def test_arrays_hold_teacher_weights_if_some_classes_are_shared(teachers: Path) -> None:
    made = smoke_plan(teachers, "distill-overlap50", "kd", limit_steps=2)
    found = run_plan(teachers, made)
    weights, known = found.arrays["train_weights"], found.arrays["train_known"]
    assert len(weights) == len(known) == found.facts["training_images"]
    assert known.sum() == 2 * found.facts["classes_shared"]
    assert weights.max() == 1
    assert weights.min() == pytest.approx(2 / (1 + np.e))
    for name in ("distill-same", "distill-cross"):
        assert "train_weights" not in run_plan(teachers, smoke_plan(teachers, name, "rkd", limit_steps=2)).arrays


def test_strongly_unequal_classes_are_told_beside_the_accuracy() -> None:
    """18 of 20 images are of one class: always answering it is right in 90 %, and in half of the classes."""
    labels = np.array([0] * 18 + [1] * 2)
    scores = unequal_class_scores(labels, np.zeros(20, np.int64))
    assert {name: score.value for name, score in scores.items()} == {"class_mean": 0.5, "largest_class": 0.9}
    assert unequal_class_scores(labels[11:], labels[11:]) == {}


@pytest.mark.parametrize("protocol", ["distill-same", "incremental-1step-1exemplars"])
def test_runs_on_unequal_classes_have_the_mean_over_classes(tmp_path: Path, tiny: ImageSet, protocol: str) -> None:
    of_first = tiny.indices_of([0])
    images = np.concatenate([tiny.images, *[tiny.images[of_first] // n for n in range(2, 11)]])
    labels = np.concatenate([tiny.labels, np.zeros(9 * len(of_first), np.int64)])
    unequal = dataclasses.replace(tiny, images=images, labels=labels, groups=np.arange(len(labels)))
    method = "ce" if protocol == "distill-same" else "finetune"
    plan = smoke_plan(tmp_path, protocol, method, limit_steps=2)
    ordered = dataclasses.replace(unequal, orders=dict.fromkeys(("distillation", "incremental"), tuple(range(30))))
    found = run_plan(tmp_path, dataclasses.replace(plan, data=ordered))
    assert {"class_mean", "largest_class"} <= set(found.references)
    assert found.references["largest_class"].value > 1 / 30
    correct = found.arrays["predicted_student"] == found.arrays["labels"]
    means = [correct[found.arrays["labels"] == c].mean() for c in np.unique(found.arrays["labels"])]
    assert found.references["class_mean"].value == pytest.approx(np.mean(means))
