"""Trainings against a loop in plain PyTorch, which shares the networks, the order of images and the crops alone.

Both train for 20 steps a stage, in float64 and without dropout, and end in the same weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.backbones.network import Network, Outputs, build_network
from benchmark.data import ImageSet, Task
from benchmark.data.augmentation import ImageLoader, Normalisation
from benchmark.data.sampling import batches
from benchmark.data.task import hold_out
from benchmark.hashing import derive_seed
from benchmark.methods import LabelSpaces, Method
from benchmark.spec import Training
from benchmark.system.progress import Silent
from benchmark.training import fit, select_device
from benchmark.training.frozen_teacher import FrozenTeacher
from benchmark.training.initialisation import build_method

SEED = 4
STEPS = 20
CLASSES = 8
BATCH = 24
PADDING = 2
MILESTONES = 0.25, 0.5, 0.75
Terms = Callable[[Outputs, Outputs, Tensor], Tensor]
"""The loss of a batch, of the student's and the teacher's outputs and the labels."""


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def task(tiny: ImageSet) -> Task:
    return hold_out(tiny, tiny.splits["train"][:CLASSES], 0.25)


def network(name: str, seed: int) -> Network:
    built = build_network(name, channels=3, size=16, classes=CLASSES, seed=seed)
    for module in built.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return built


def settings(stages: int, milestones: bool = True) -> Training:
    return Training(
        steps=stages * STEPS, batch_size=BATCH, lr=0.1, warmup=0, crop_padding=PADDING, decay=0.2,
        milestones=",".join(map(str, MILESTONES)) if milestones else "",
    )  # fmt: skip


def stepwise(step: int) -> float:
    """A fifth of the rate at each milestone."""
    return 0.2 ** sum(step >= milestone * STEPS for milestone in MILESTONES)


def cosine_to_a_tenth(step: int) -> float:
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / STEPS))


class Crops:
    """Crops of training images, cut by hand: padded with the background, normalised by mean and deviation."""

    def __init__(self, task: Task, name: str) -> None:
        self.task = task
        images = task.data.images[task.train]
        edge = ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0))
        self.padded = np.pad(images, edge, constant_values=task.data.background).astype(np.float64) / 255
        plain = (images.astype(np.float32) / np.float32(255)).astype(np.float64)  # statistics of float32 pixels
        self.mean, self.std = plain.mean((0, 1, 2)), plain.std((0, 1, 2))
        norm = Normalisation.of(task.data, task.train)
        self.drawn_by = ImageLoader(task.data, task.train, norm, padding=PADDING, device=torch.device("cpu"))
        self.generator = torch.Generator().manual_seed(derive_seed(SEED, name))

    def __call__(self, positions: np.ndarray) -> Tensor:
        rows, columns, mirrored = self.drawn_by.sample_padded_crops(len(positions), self.generator)
        cut = []
        for position, down, right, flip in zip(positions, rows.tolist(), columns.tolist(), mirrored, strict=True):
            window = self.padded[position, PADDING + down :, PADDING + right :][:16, :16]
            cut.append(window[:, ::-1] if flip else window)
        return torch.tensor((np.stack(cut) - self.mean) / self.std).permute(0, 3, 1, 2)


class PlainLoop:
    """SGD with Nesterov momentum, a rate for each step, and nothing else."""

    def __init__(self, task: Task, student: Network, teacher: Network, connector: nn.Module | None = None) -> None:
        self.labels = torch.from_numpy(task.labels(task.train))
        self.order = batches(task.labels(task.train), BATCH, derive_seed(SEED, "batches"))
        self.crops = Crops(task, "crops")
        self.student, self.teacher, self.connector = student, teacher, connector

    def run(self, loss: Terms, rate: Callable[[int], float]) -> None:
        learns = nn.ModuleList([self.student] if self.connector is None else [self.student, self.connector])
        optimiser = torch.optim.SGD(learns.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
        self.student.train()
        for step in range(STEPS):
            positions = next(self.order)
            pixels = self.crops(positions)
            with torch.no_grad():
                teacher = self.teacher(pixels)
            optimiser.param_groups[0]["lr"] = 0.1 * rate(step)
            optimiser.zero_grad()
            loss(self.student(pixels), teacher, self.labels[positions]).backward()
            optimiser.step()


def ours(
    task: Task, method: Method, student: Network, teacher: Network, training: Training, embeddings: Tensor | None = None
) -> None:
    norm, device = Normalisation.of(task.data, task.train), select_device("cpu")
    method.prepare(student, torch.from_numpy(task.labels(task.train)), embeddings)
    frozen = FrozenTeacher(teacher, norm, norm, device)
    fit(
        student, method, task, training, norm, teacher=frozen, seed=SEED, device=device, progress=Silent(), title="test"
    )


def built(name: str, task: Task, student: Network, teacher: Network) -> Method:
    labels = LabelSpaces(task.classes, task.classes)
    return build_method(name, None, labels, student, teacher, SEED, channels=3, size=16)


def assert_equal(expected: Network, found: Network) -> None:
    assert expected.head.weight.dtype == found.head.weight.dtype == torch.float64
    for (name, a), b in zip(expected.state_dict().items(), found.state_dict().values(), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-6), f"{name} differs by {float((a - b).abs().max())}"


def cross_entropy(student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:
    log_p = student.logits - student.logits.exp().sum(1, keepdim=True).log()
    return -log_p[torch.arange(len(labels)), labels].mean()


def divergence(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """KL(softmax(t) || softmax(s)) of each row."""
    p, q = teacher_logits.softmax(1), student_logits.softmax(1)
    return (p * (p.log() - q.log())).sum(1)


def kd(student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:
    soft = divergence(teacher.logits / 4, student.logits / 4).mean()
    return 0.1 * cross_entropy(student, teacher, labels) + 0.9 * 16 * soft


def attention(features: Tensor) -> Tensor:
    flat = features.pow(2).mean(1).flatten(1)
    return flat / flat.norm(dim=1, keepdim=True)


def at(student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:
    pairs = [(student.stages[f"stage{i}"], teacher.stages[f"stage{i}"]) for i in (1, 2, 3)]
    apart = sum((attention(a) - attention(b)).pow(2).mean() for a, b in pairs)
    return cross_entropy(student, teacher, labels) + 1000 * apart


@pytest.mark.parametrize(
    ("name", "loss", "milestones"),
    [("ce", cross_entropy, True), ("ce", cross_entropy, False), ("kd", kd, True), ("at", at, True)],
)
def test_training_is_the_plain_loop(task: Task, name: str, loss: Terms, milestones: bool) -> None:
    teacher = network("wrn-10-1", 1).eval().requires_grad_(False)
    student = network("wrn-10-1", 2)
    plain = copy.deepcopy(student)
    ours(task, built(name, task, student, teacher), student, teacher, settings(1, milestones))
    cosine = lambda step: 0.5 * (1 + math.cos(math.pi * step / STEPS))  # noqa: E731
    PlainLoop(task, plain, teacher).run(loss, stepwise if milestones else cosine)
    assert not torch.allclose(student.head.weight, network("wrn-10-1", 2).head.weight, atol=1e-2)
    assert_equal(plain, student)


def test_training_of_fitnet_is_the_plain_loop(task: Task) -> None:
    teacher = network("wrn-10-1", 1).eval().requires_grad_(False)
    student = network("wrn-10-1", 2)
    method = built("fitnet", task, student, teacher)
    assert method.connector is not None
    plain = copy.deepcopy(student)
    regressor = nn.Sequential(nn.Conv2d(32, 32, 1), nn.BatchNorm2d(32), nn.ReLU())
    with torch.no_grad():
        for target, source in zip(regressor.parameters(), method.connector.parameters(), strict=True):
            target.copy_(source)

    def fitnet(student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:
        hint = (regressor(student.stages["stage2"]) - teacher.stages["stage2"]).pow(2).mean()
        return cross_entropy(student, teacher, labels) + 100 * hint

    ours(task, method, student, teacher, settings(1))
    PlainLoop(task, plain, teacher, regressor).run(fitnet, stepwise)
    assert_equal(plain, student)
    for expected, found in zip(regressor.parameters(), method.connector.parameters(), strict=True):
        assert torch.allclose(expected, found, rtol=0, atol=1e-6)


def tuples(student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:
    """Stage 1 of REFILLED, tuple by tuple: 1000 times the mean divergence of distributions over distances."""
    s, t = (F.normalize(outputs.embedding) for outputs in (student, teacher))
    total, count = torch.zeros(()), 0
    for a in range(len(labels)):
        for p in range(len(labels)):
            if a == p or labels[a] != labels[p]:
                continue
            with torch.no_grad():
                gap = (s[a] - s).norm(dim=1) - (s[a] - s[p]).norm()
                negatives = [n for n in range(len(labels)) if labels[n] != labels[a] and 0 < gap[n] <= 0.2]
            if negatives:
                members = [p, *negatives]
                scores = [-(e[a] - e[members]).norm(dim=1)[None] / 4 for e in (t, s)]
                total, count = total + divergence(*scores).sum(), count + 1
    return 1000 * total / max(count, 1)


def local_classifier(centers: Tensor) -> Terms:
    """Stage 2 of REFILLED with adaptive weights, image by image."""

    def loss(student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:
        present = sorted(set(labels.tolist()))
        doubt = torch.stack([-row.softmax(0).max().log() for row in teacher.logits])
        scaled = (doubt - doubt.min()) / (doubt.max() - doubt.min())
        total = torch.zeros(())
        for i in range(len(labels)):
            target = torch.stack([teacher.embedding[i] @ centers[k] for k in present])[None]
            weight = 2 / (1 + torch.exp(scaled[i]))
            total = total + weight * divergence(target, student.logits[i, present][None]).sum()
        return cross_entropy(student, teacher, labels) + total / len(labels)

    return loss


def test_both_stages_of_refilled_are_the_plain_loop(task: Task) -> None:
    teacher = network("wrn-10-1", 1).eval().requires_grad_(False)
    student = network("wrn-10-1", 2)
    plain = copy.deepcopy(student)
    labels = task.labels(task.train)
    with torch.no_grad():
        embeddings = teacher(Crops(task, "embedded crops")(np.arange(len(labels)))).embedding
    means = torch.stack([embeddings[labels == k].mean(0) for k in range(CLASSES)])
    centers = means / means.norm(dim=1, keepdim=True)
    ours(task, built("refilled", task, student, teacher), student, teacher, settings(2), embeddings)

    loop = PlainLoop(task, plain, teacher)
    head = plain.head.weight.detach().clone()
    loop.run(tuples, cosine_to_a_tenth)
    assert torch.equal(plain.head.weight, head), "stage 1 leaves the head as it was drawn"
    torch.manual_seed(derive_seed(SEED, "head", "classifier"))
    plain.head.reset_parameters()
    loop.run(local_classifier(centers), stepwise)
    assert_equal(plain, student)
