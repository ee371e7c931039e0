"""Parallel training equals a plain loop over ordinary modules for each student, up to rounding."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark.backbones import BACKBONES
from benchmark.backbones.network import Network, Outputs, build_network
from benchmark.checks.toy import make_toy
from benchmark.data import ImageSet
from benchmark.data.augmentation import ImageLoader, Normalisation
from benchmark.data.sampling import balanced_batches, batches
from benchmark.data.task import hold_out
from benchmark.errors import InputError
from benchmark.hashing import derive_seed
from benchmark.methods import METHODS, Batch, LabelSpaces, Method, Shapes, Stage
from benchmark.spec import Training
from benchmark.system.progress import Silent
from benchmark.training import TrainingResult, fit, select_device
from benchmark.training.device import Device
from benchmark.training.frozen_teacher import FrozenTeacher
from benchmark.training.parallel_loop import fit_parallel, predict_parallel
from benchmark.training.term_log import DivergedError

DEVICE = select_device("cpu", "float32")
TASKS, WAYS, IMAGES, SIZE = 6, 5, 20, 16
TRAINING = Training(steps=20, batch_size=10, lr=0.02, weight_decay=0.05, warmup=0.2)
ARCHITECTURES = list({BACKBONES.get(name).entry: name for name in reversed(BACKBONES.names())}.values())
"""One name of each registered architecture."""
OWN_HEAD = "lucir"
READS_WEIGHTS = "l2sp"


class Rebalanced(Method):
    """Cross-entropy in a plain stage and in a balanced stage."""

    def stages(self) -> list[Stage]:
        return [Stage("usual", 0.6, final_lr=0.1), Stage("even", 0.4, lr=0.3, balanced=True)]

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        return {"ce": torch.nn.functional.cross_entropy(student.logits, batch.labels)}


@dataclasses.dataclass
class Students:
    """Students before training, each with its own method, images, uneven classes, teacher outputs and seed."""

    students: list[Network]
    methods: list[Method]
    images: Tensor
    labels: Tensor
    teacher_outputs: Outputs | None
    seeds: list[int]

    def fit(self, training: Training = TRAINING, **options: Any) -> TrainingResult:
        options = {"seeds": self.seeds, "device": DEVICE, "progress": Silent(), "title": "test", **options}
        return fit_parallel(
            self.students, self.methods, self.images, self.labels, self.teacher_outputs, training, **options
        )


def made(method: str | type[Method], count: int = TASKS, **settings: object) -> Students:
    chosen = METHODS.get(method).entry if isinstance(method, str) else method
    generator = torch.Generator().manual_seed(3)
    labels = torch.stack([torch.arange(IMAGES).clamp_max(WAYS * 3 - 1 + t) % WAYS for t in range(count)])
    prototypes = torch.randn(count, WAYS, 1, SIZE, SIZE, generator=generator, dtype=torch.float64)
    images = prototypes[torch.arange(count)[:, None], labels]
    images = images + 0.5 * torch.randn(images.shape, generator=generator, dtype=torch.float64)
    teacher_outputs = Outputs(
        {},
        torch.randn(count, IMAGES, 12, generator=generator),
        torch.nn.functional.one_hot(labels, WAYS) + torch.randn(count, IMAGES, WAYS, generator=generator),
    )
    students = [build_network("conv4-16", channels=1, size=SIZE, classes=WAYS, seed=t).double() for t in range(count)]
    classes = LabelSpaces(tuple(range(WAYS)), tuple(range(WAYS)))
    methods = [chosen(chosen.Settings(**settings), classes, Shapes({}), Shapes({})) for _ in range(count)]
    for t, one in enumerate(methods):
        one.prepare(students[t], labels[t], teacher_outputs.embedding[t])
    return Students(students, methods, images, labels, teacher_outputs, [10 + t for t in range(count)])


def fit_alone(group: Students, t: int, training: Training = TRAINING, reset_heads: bool = True) -> list[float]:
    """Train one student in an ordinary loop; return its losses."""
    student, method, images, labels = group.students[t], group.methods[t], group.images[t], group.labels[t]
    order = batches(labels.numpy(), training.batch_size, derive_seed(group.seeds[t], "batches"))
    losses, start = [], 0
    for number, stage in enumerate(method.stages(), 1):
        end = round(sum(s.share for s in method.stages()[:number]) * training.steps)
        steps, start = end - start, end
        if stage.balanced:
            order = balanced_batches(
                labels.numpy(), training.batch_size, derive_seed(group.seeds[t], "batches", stage.name)
            )
        if stage.reset_head and reset_heads:
            torch.manual_seed(derive_seed(group.seeds[t], "head", stage.name))
            student.head.reset_parameters()
        optimiser = torch.optim.SGD(
            student.parameters(), training.lr, training.momentum, weight_decay=training.weight_decay, nesterov=True
        )
        warm, last = round(training.warmup * steps), stage.final_lr or 0.0
        student.train()
        for step in range(steps):
            cosine = 0.5 + 0.5 * math.cos(math.pi * (step - warm) / (steps - warm))
            share = (step + 1) / warm if step < warm else last + (1 - last) * cosine
            optimiser.param_groups[0]["lr"] = training.lr * stage.lr * share
            index = torch.from_numpy(next(order))
            assert group.teacher_outputs is not None
            teacher_output = Outputs(
                {}, group.teacher_outputs.embedding[t, index], group.teacher_outputs.logits[t, index]
            )
            batch = Batch(labels[index], index, stage.name, step / steps)
            loss = torch.stack(list(method.loss(batch, student(images[index]), teacher_output).values())).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
    student.eval()
    return losses


def distances(found: Sequence[Network], expected: Sequence[Network]) -> list[float]:
    """Return, for each student, the largest difference of parameters and buffers, relative to the tensor's maximum."""

    def between(one: Network, other: Network) -> float:
        pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
        return max(float((a - b).abs().max() / b.abs().max().clamp_min(1e-3)) for a, b in pairs)

    return sorted(between(one, other) for one, other in zip(found, expected, strict=True))


def assert_same(found: Sequence[Network], expected: Sequence[Network]) -> None:
    """Compare up to rounding; in float64, because in float32 a ReLU may switch and students drift apart."""
    assert distances(found, expected)[-1] < 1e-8


@pytest.mark.parametrize("method", ["ce", "kd", "refilled", Rebalanced])
def test_parallel_training_equals_training_alone(method: str | type[Method]) -> None:
    group, alone = made(method), made(method)
    losses = torch.tensor([fit_alone(alone, t) for t in range(TASKS)])
    state = torch.get_rng_state()
    fitted = group.fit()
    assert torch.equal(torch.get_rng_state(), state)
    assert_same(group.students, alone.students)
    assert not any(module.training for student in group.students for module in student.modules())
    assert distances(made(method).students, alone.students)[0] > 0.1
    totals = [sum(v for k, v in row.items() if k not in ("stage", "step")) for row in fitted.history]  # type: ignore[misc]
    assert totals == pytest.approx(losses.mean(0).tolist(), rel=1e-5)
    assert (fitted.steps, fitted.images) == (TASKS * 20, TASKS * 20 * 10)
    assert [row["step"] for row in fitted.history] == list(range(1, 21))


def test_group_size_changes_nothing_and_rows_are_means() -> None:
    one, two, all_ = made("ce", 3), made("ce", 3), made("ce", 3)
    one.fit(group_size=1)
    by_two = two.fit(group_size=2, rows=3)
    by_all = all_.fit()
    assert_same(one.students, all_.students)
    assert_same(two.students, all_.students)
    assert [row["step"] for row in by_two.history] == [6, 12, 18, 20]
    last = [float(row["ce"]) for row in by_all.history[-2:]]
    assert by_two.history[-1]["ce"] == pytest.approx(sum(last) / 2, rel=1e-5)


def test_heads_may_be_kept() -> None:
    group, alone = made("refilled", 2), made("refilled", 2)
    for t in range(2):
        fit_alone(alone, t, reset_heads=False)
    group.fit(reset_heads=False)
    assert_same(group.students, alone.students)


def test_fit_parallel_equals_fit(tiny: ImageSet) -> None:
    """Without crops, the same seed gives the weights of ``fit``."""
    training = Training(steps=6, batch_size=8, lr=0.01, crop_padding=0)
    data = dataclasses.replace(tiny, flip_invariant=False)
    task = hold_out(data, data.splits["train"][:WAYS], 0.25)
    normalisation = Normalisation.of(data, task.train)
    found, expected = (
        [build_network("conv4-16", channels=3, size=16, classes=WAYS, seed=s) for s in (1, 2)] for _ in "ab"
    )
    teacher = build_network("conv4-16", channels=3, size=16, classes=WAYS, seed=3).eval().requires_grad_(False)
    method = METHODS.get("refilled").entry
    space = LabelSpaces(task.classes, task.classes)
    methods = [method(method.Settings(), space, Shapes({}), Shapes({})) for _ in found]
    labels = torch.from_numpy(task.labels(task.train)).expand(2, -1)
    images = ImageLoader(data, task.train, normalisation, padding=0, device=DEVICE.torch).plain(
        torch.arange(labels.shape[1])
    )
    teacher_output = teacher(images)
    for student, one in zip(expected, methods, strict=True):
        one.prepare(student, labels[0], teacher_output.embedding)
    common: dict[str, Any] = {"device": DEVICE, "progress": Silent(), "title": "test"}
    for seed, student in enumerate(expected):
        own = FrozenTeacher(teacher, normalisation, normalisation, DEVICE)
        fit(student, methods[0], task, training, normalisation, teacher=own, seed=seed, **common)
    teacher_outputs = Outputs({}, teacher_output.embedding.expand(2, -1, -1), teacher_output.logits.expand(2, -1, -1))
    fit_parallel(
        found, methods, images.expand(2, -1, -1, -1, -1), labels, teacher_outputs, training, seeds=[0, 1], **common
    )
    assert distances(found, expected)[-1] < 1e-4


def around_toys(name: str) -> Students:
    """Return two students of the toy problem, with the teacher's embeddings and logits."""
    toys = [make_toy(name) for _ in range(2)]
    images, labels = (torch.stack([getattr(toy, what) for toy in toys]) for what in ("images", "labels"))
    with torch.no_grad():
        outputs = [toy.teacher(toy.images) for toy in toys]
    embeddings, logits = (torch.stack([getattr(o, what) for o in outputs]).double() for what in ("embedding", "logits"))
    students, methods = [toy.student.double() for toy in toys], [toy.method for toy in toys]
    return Students(students, methods, images.double(), labels, Outputs({}, embeddings, logits), [1, 2])


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_trains_as_alone_or_is_refused(name: str) -> None:
    """A method whose loss reads more than a student's outputs must be refused."""
    training = Training(steps=3, batch_size=12, lr=0.01)
    if METHODS.get(name).entry.needs.learns != "batches":
        return
    group = around_toys(name)
    method = group.methods[0]
    reason = {OWN_HEAD: "with a CosineHead do not stand", READS_WEIGHTS: "reads the weights of the student"}.get(name)
    if method.connector is not None or method.needs.taps or method.needs.trains != "all":
        reason = "has a connector, reads stages or does not train the whole student"
    if reason is not None:
        with pytest.raises(ValueError, match=reason):
            group.fit(training)
        return
    group.fit(training)
    alone = around_toys(name)
    for t in range(2):
        fit_alone(alone, t, training)
    assert_same(group.students, alone.students)


@pytest.mark.parametrize(
    ("backbone", "channels", "queries"), [*((name, 1, 3) for name in ARCHITECTURES), ("conv4-16", 3, 120)]
)
def test_predict_parallel_equals_each_student_alone(backbone: str, channels: int, queries: int) -> None:
    students = [build_network(backbone, channels=channels, size=16, classes=3, seed=s) for s in range(3)]
    images = torch.randn(3, queries, channels, 16, 16)
    for student, own in zip(students, images, strict=True):
        student(own + 1)
    expected = torch.stack([s.eval()(x).logits for s, x in zip(students, images, strict=True)])
    found = predict_parallel([s.train() for s in students], images, device=DEVICE)
    assert found.shape == (3, queries, 3)
    assert torch.allclose(found, expected, atol=1e-4)


def test_dropout_follows_the_seeds_alone() -> None:
    def weights(seed: int) -> Tensor:
        group = made("ce", 2)
        group.students = [
            build_network("wrn-10-1", channels=1, size=SIZE, classes=WAYS, seed=t).double() for t in (0, 1)
        ]
        group.seeds = [seed, 7]
        group.fit(Training(steps=3, batch_size=20))
        return torch.cat([p.detach().flatten() for student in group.students for p in student.parameters()])

    first = weights(1)
    torch.rand(9)
    assert torch.equal(first, weights(1))
    assert not torch.equal(first, weights(2))


def test_a_loss_that_is_not_finite_names_its_student() -> None:
    class Broken(Rebalanced):
        factor = 1.0

        def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
            terms = super().loss(batch, student, teacher)
            return {"fine": terms["ce"], "broken": terms["ce"] * self.factor}

    group = made(Broken, 5)
    group.methods[3].factor = math.nan  # type: ignore[attr-defined]
    with pytest.raises(DivergedError, match=r"student 3, stage 'usual', step 1: term 'broken' is not finite"):
        group.fit(group_size=2)


def test_terms_that_are_all_zero_raise() -> None:
    with pytest.raises(InputError, match="stage 'train' has nothing to minimise"):
        made("kd", 2, ce=0.0, kd=0.0).fit()


def test_arguments_that_do_not_match_raise() -> None:
    group = made("kd", 2)
    with pytest.raises(ValueError, match="2, 2 and 1 for 2 tasks"):
        group.fit(seeds=[1])
    with pytest.raises(ValueError, match=r"labels T x M.*got \(2, 20\), \(2, 19, 1, 16, 16\)"):
        dataclasses.replace(group, images=group.images[:, 1:]).fit()
    with pytest.raises(ValueError, match="KD learns from a teacher"):
        dataclasses.replace(group, teacher_outputs=None).fit()
    with pytest.raises(ValueError, match="one method with the same settings"):
        dataclasses.replace(group, methods=[group.methods[0], made("kd", 1, kd=0.5).methods[0]]).fit()
    group.students[1].head.requires_grad_(False)
    with pytest.raises(ValueError, match="frozen parameters"):
        group.fit()


def test_losses_see_float32_after_a_forward_pass_in_bfloat16() -> None:
    class Looking(Rebalanced):
        def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
            seen.update((student.logits.dtype, student.embedding.dtype))
            return super().loss(batch, student, teacher)

    seen: set[torch.dtype] = set()
    group = made(Looking, 2)
    for student in group.students:
        student.float()
    group.images = group.images.float()
    group.fit(Training(steps=2, batch_size=10), device=Device(torch.device("cpu"), "bfloat16"))
    assert seen == {torch.float32}
