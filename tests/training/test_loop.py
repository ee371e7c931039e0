from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmark.backbones.network import Network, Outputs, build_network
from benchmark.data import ImageSet, Task
from benchmark.data.augmentation import Normalisation
from benchmark.data.task import hold_out
from benchmark.errors import InputError
from benchmark.methods import Batch, LabelSpaces, Method, Needs, Shapes, Stage
from benchmark.spec import Training
from benchmark.system.progress import Silent
from benchmark.training import TrainingResult, accuracy, fit, select_device
from benchmark.training.frozen_teacher import FrozenTeacher
from benchmark.training.optimisation import build_optimiser
from benchmark.training.term_log import DivergedError

DEVICE = select_device("cpu", "float32")


class Recorder(Method):
    """Cross-entropy in two stages that records its batches."""

    needs = Needs(teacher=True)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.seen: list[tuple[str, float, list[int]]] = []
        self.heads: list[Tensor] = []

    def stages(self) -> list[Stage]:
        return [Stage("one", 0.25), Stage("two", 0.75, reset_head=True)]

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        assert teacher is not None
        assert not teacher.logits.requires_grad
        assert student.logits.dtype == teacher.logits.dtype == torch.float32
        self.seen.append((batch.stage, batch.progress, batch.index.tolist()))
        return {"ce": torch.nn.functional.cross_entropy(student.logits, batch.labels)}


def train(
    data: ImageSet,
    training: Training,
    method: type[Method] = Recorder,
    backbone: str = "conv4-16",
    teacher_norm: Normalisation | None = None,
    **options: Any,
) -> tuple[Network, Any, TrainingResult, Task]:
    task = hold_out(data, data.splits["train"][:8], 0.25)
    student, teacher = (build_network(backbone, channels=3, size=16, classes=8, seed=s) for s in (1, 2))
    teacher.eval().requires_grad_(False)
    made = method(method.Settings(), LabelSpaces(task.classes, task.classes), Shapes({}), Shapes({}))
    normalisation = Normalisation.of(data, task.train)
    frozen = FrozenTeacher(teacher, teacher_norm or normalisation, normalisation, options.get("device", DEVICE))
    options = {"seed": 4, "device": DEVICE, "teacher": frozen, "progress": Silent(), "title": "test", **options}
    fitted = fit(student, made, task, training, normalisation, **options)
    return student, made, fitted, task


def test_stages_share_the_steps_and_every_step_counts(tiny: ImageSet) -> None:
    _, method, fitted, task = train(tiny, Training(steps=21, batch_size=10))
    stages = [stage for stage, _, _ in method.seen]
    assert stages == ["one"] * 5 + ["two"] * 16
    assert (fitted.steps, fitted.images) == (21, 210)
    assert [p for s, p, _ in method.seen if s == "two"] == pytest.approx([i / 16 for i in range(16)])
    assert max(i for _, _, index in method.seen for i in index) < len(task.train)
    assert fitted.history[-1]["step"] == 21


def test_batches_are_the_same_for_every_method(tiny: ImageSet) -> None:
    class OneStage(Recorder):
        def stages(self) -> list[Stage]:
            return [Stage()]

    training = Training(steps=12, batch_size=10)
    two, one = train(tiny, training)[1], train(tiny, training, OneStage)[1]
    assert [index for _, _, index in two.seen] == [index for _, _, index in one.seen]


@pytest.mark.parametrize("backbone", ["conv4-16", "wrn-10-1"])
def test_same_seed_same_weights_bit_for_bit(tiny: ImageSet, backbone: str) -> None:
    """Also with dropout."""

    def weights(seed: int) -> Tensor:
        torch.rand(len(drawn))
        drawn.append(seed)
        network = train(tiny, Training(steps=10, batch_size=16), backbone=backbone, seed=seed)[0]
        return torch.cat([p.flatten() for p in network.state_dict().values()])

    drawn: list[int] = []
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = weights(1)
    assert torch.equal(torch.rand(3), expected), "the caller's generator goes on as if nothing had been drawn"
    assert torch.equal(first, weights(1))
    assert not torch.equal(first, weights(2))


def test_reset_head_draws_new_weights(tiny: ImageSet) -> None:
    class Frozen(Recorder):
        def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
            return {"nothing": 0.0 * student.logits.sum()}

    training = Training(steps=8, batch_size=8, weight_decay=0.0)
    start = build_network("conv4-16", channels=3, size=16, classes=8, seed=1)
    end = train(tiny, training, Frozen)[0]
    assert torch.equal(start.backbone.blocks[0][0].weight, end.backbone.blocks[0][0].weight)  # type: ignore[index, union-attr]
    assert not torch.equal(start.head.weight, end.head.weight)


def test_fit_learns(tiny: ImageSet) -> None:
    student, _, fitted, task = train(tiny, Training(steps=150, batch_size=32))
    reached = accuracy(student, task, task.held_out, Normalisation.of(tiny, task.train), DEVICE)
    assert reached is not None
    assert reached > 0.6
    assert fitted.history[-1]["ce"] < fitted.history[0]["ce"]  # type: ignore[operator]
    assert not student.training


def test_shuffled_labels_fall_to_chance(tiny: ImageSet) -> None:
    shuffled = dataclasses.replace(tiny, labels=tiny.labels.copy())
    chosen = tiny.indices_of(tiny.splits["train"][:8])
    order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(0)).numpy()
    shuffled.labels[chosen] = tiny.labels[chosen][order]
    student, _, _, task = train(shuffled, Training(steps=150, batch_size=32))
    reached = accuracy(student, task, task.held_out, Normalisation.of(shuffled, task.train), DEVICE)
    assert reached is not None
    assert abs(reached - 1 / 8) < 4 * (1 / 8 * 7 / 8 / len(task.held_out)) ** 0.5


def test_a_loss_that_is_not_finite_stops_the_run(tiny: ImageSet) -> None:
    class Broken(Recorder):
        def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
            return {"fine": student.logits.sum() * 0, "broken": student.logits.sum() * float("nan")}

    with pytest.raises(DivergedError, match=r"stage 'one', step 1: term 'broken' is not finite"):
        train(tiny, Training(steps=20, batch_size=8), Broken)


def test_terms_that_are_all_zero_raise(tiny: ImageSet) -> None:
    class Empty(Recorder):
        def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
            return {}

    with pytest.raises(InputError, match="stage 'one' has nothing to minimise"):
        train(tiny, Training(steps=8), Empty)


def test_shares_that_do_not_sum_to_one_raise(tiny: ImageSet) -> None:
    class Greedy(Recorder):
        def stages(self) -> list[Stage]:
            return [Stage("one"), Stage("two")]

    with pytest.raises(ValueError, match="sum to 2"):
        train(tiny, Training(steps=8), Greedy)


def test_frozen_teacher_renormalises_pixels(tiny: ImageSet) -> None:
    """The teacher's outputs do not depend on the student's input statistics."""
    outputs = []

    class Keep(Recorder):
        def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
            assert teacher is not None
            outputs.append(teacher.logits)
            return super().loss(batch, student, teacher)

    teacher_norm = Normalisation((0.3, 0.4, 0.5), (0.2, 0.3, 0.4))
    train(tiny, Training(steps=1, batch_size=8), Keep, teacher_norm=teacher_norm)
    student_like = Training(steps=1, batch_size=8)
    task = hold_out(tiny, tiny.splits["train"][:8], 0.25)
    network, teacher = (build_network("conv4-16", channels=3, size=16, classes=8, seed=s) for s in (1, 2))
    teacher.eval()
    method = Keep(Keep.Settings(), LabelSpaces(task.classes, task.classes), Shapes({}), Shapes({}))
    fit(
        network,
        method,
        task,
        student_like,
        teacher_norm,
        teacher=FrozenTeacher(teacher.requires_grad_(False), teacher_norm, teacher_norm, DEVICE),
        seed=4,
        device=DEVICE,
        progress=Silent(),
        title="test",
    )
    assert torch.allclose(outputs[0], outputs[1], atol=1e-4)


def rates(stage: Stage, training: Training, steps: int) -> list[float]:
    network = build_network("conv4-16", channels=3, size=16, classes=2, seed=0)
    method = Recorder(Recorder.Settings(), LabelSpaces((0, 1), (0, 1)), Shapes({}), Shapes({}))
    optimiser, scheduler = build_optimiser(network, method, stage, steps, training)
    found = []
    for _ in range(steps):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return found


def test_learning_rate_equals_that_of_torch_schedulers() -> None:
    """Milestones equal torch's schedule with steps as epochs; a stage with a final rate keeps its cosine."""
    training = Training(lr=0.1, warmup=0.0, milestones="0.25,0.5,0.75", decay=0.2)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([weight], lr=0.1)
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimiser, [10, 20, 30], 0.2)
    expected = []
    for _ in range(40):
        expected.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        theirs.step()
    assert rates(Stage(), training, 40) == pytest.approx(expected)
    optimiser = torch.optim.SGD([weight], lr=0.1)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 40, eta_min=0.01)
    expected = []
    for _ in range(40):
        expected.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        cosine.step()
    assert rates(Stage(final_lr=0.1), training, 40) == pytest.approx(expected)
    warm = rates(Stage(), dataclasses.replace(training, warmup=0.1), 40)
    assert warm[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert warm[4:10] == pytest.approx([0.1] * 6)
    assert warm[10] == pytest.approx(0.02)


def test_nesterov_changes_the_weights(tiny: ImageSet) -> None:
    heads = [train(tiny, Training(steps=5, batch_size=8, nesterov=nesterov))[0].head.weight for nesterov in (1, 0)]
    assert not torch.equal(*heads)


def test_training_in_float16_learns(tiny: ImageSet) -> None:
    """Gradients are scaled on the CPU too; a step whose gradients overflow changes nothing."""
    device = select_device("cpu", "float16")
    student, _, _, task = train(tiny, Training(steps=60, batch_size=32, lr=0.05), device=device)
    reached = accuracy(student, task, task.held_out, Normalisation.of(tiny, task.train), device)
    assert reached is not None
    assert reached > 0.6
    assert all(parameter.dtype == torch.float32 for parameter in student.parameters())

    class Huge(Recorder):
        def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
            return {"huge": 1e35 * student.logits.sum()}

    start = build_network("conv4-16", channels=3, size=16, classes=8, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's, of a schedule that goes on without a step
        end = train(tiny, Training(steps=2, batch_size=8), Huge, device=device)[0]
    assert torch.equal(start.backbone.blocks[0][0].weight, end.backbone.blocks[0][0].weight)  # type: ignore[index, union-attr]


def test_a_compiled_device_compiles_both_networks(tiny: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Network] = []
    monkeypatch.setattr(torch, "compile", lambda network: compiled.append(network) or network)
    plain = train(tiny, Training(steps=3, batch_size=8))[0]
    assert not compiled
    same = train(tiny, Training(steps=3, batch_size=8), device=select_device("cpu", "float32", compiled=True))[0]
    assert len(compiled) == 2
    assert same in compiled
    assert torch.equal(plain.head.weight, same.head.weight)


def test_input_size_and_resized_crops_reach_the_networks(tiny: ImageSet) -> None:
    """Training uses resized crops, evaluation the centre."""
    shapes = set()

    class Look(Recorder):
        def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
            shapes.add(tuple(student.stages["stage1"].shape[2:]))
            return super().loss(batch, student, teacher)

    training = Training(steps=100, batch_size=32, crop="resized", input_size=12)
    student, _, _, task = train(tiny, training, Look, backbone="resnet8")
    assert shapes == {(12, 12)}
    normalisation = Normalisation.of(tiny, task.train)
    reached = accuracy(student, task, task.held_out, normalisation, DEVICE, size=12)
    centres = dataclasses.replace(tiny, images=np.ascontiguousarray(tiny.images[:, 2:14, 2:14]))
    own = dataclasses.replace(task, data=centres)
    assert reached == accuracy(student, own, task.held_out, normalisation, DEVICE)
    assert reached is not None
    assert reached > 0.4
