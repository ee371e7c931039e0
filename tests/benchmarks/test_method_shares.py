"""The share of a training step that a method's own work takes, beside the networks.

    pytest -o addopts= -s tests/benchmarks/test_method_shares.py

Networks are the default ones (student conv4-16, teacher conv4-64, 32 x 32 x 1, batches of 64), on one thread, with as
many classes and images as the base classes of glyphs. A step is the teacher's forward pass if the method needs it, the
forward and backward pass of the student, the method's loss forward and backward, and the optimiser. Own work is the
loss and its gradient with respect to the networks' outputs, minus that of cross-entropy on the same outputs. The test
prints a table and asserts nothing.
"""

from __future__ import annotations

import statistics
import sys
import time

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmark.backbones.network import Network, Outputs, build_network
from benchmark.methods import METHODS, Batch, LabelSpaces, Method, Shapes, Stage

BATCH, CLASSES, IMAGES, ROUNDS = 64, 139, 7_300, 25


def report(line: str) -> None:
    sys.stdout.write(line + "\n")


def shapes(network: Network) -> Shapes:
    network.eval()
    with torch.no_grad():
        outputs = network(torch.randn(1, 1, 32, 32))
    network.train()
    taps = {**outputs.stages, "embedding": outputs.embedding, "logits": outputs.logits}
    return Shapes({name: tuple(value.shape[1:]) for name, value in taps.items()})


def build(name: str) -> tuple[Network, Network, Method]:
    entry = METHODS.get(name).entry
    backbone = "conv4-64" if entry.needs.start == "teacher" else "conv4-16"
    student = build_network(backbone, channels=1, size=32, classes=CLASSES, seed=0)
    taught = CLASSES // 2 if entry.needs.labels == "extended" else CLASSES
    teacher = build_network("conv4-64", channels=1, size=32, classes=taught, seed=1)
    spaces = LabelSpaces(tuple(range(CLASSES)), tuple(range(taught)))
    method = entry(entry.Settings(), spaces, shapes(student), shapes(teacher))
    trains_all = entry.needs.trains == "all"
    student.backbone.train(trains_all).requires_grad_(trains_all)
    teacher.eval().requires_grad_(False)
    embeddings = torch.randn(IMAGES, teacher.backbone.dim) if method.reads_train_embeddings else None
    method.prepare(student, torch.arange(IMAGES) % CLASSES, embeddings)
    return student, teacher, method


def step_times(name: str, stage: Stage) -> list[float]:
    """Return median milliseconds of the whole step, of networks with optimiser, and of the method's own work."""
    torch.manual_seed(0)
    student, teacher, method = build(name)
    trained = [p for p in student.parameters() if p.requires_grad]
    if method.connector is not None:
        trained += list(method.connector.parameters())
    optimiser = torch.optim.SGD(trained, lr=1e-3, momentum=0.9)
    rounds = []
    for _ in range(ROUNDS):
        images = torch.randn(BATCH, 1, 32, 32)
        index = torch.randperm(IMAGES)[:BATCH]
        batch = Batch(index % CLASSES, index, stage.name, 0.5)
        start = time.perf_counter()
        teacher_outputs = None
        if method.needs.teacher and stage.teacher:
            with torch.no_grad():
                teacher_outputs = teacher(images)
        outputs = student(images)
        forward = time.perf_counter()
        own, slopes, cut = own_work(method, batch, outputs, teacher_outputs)
        plain = time.perf_counter()
        cross_entropy(cut.logits, batch.labels).backward()
        cost = time.perf_counter() - plain
        back = time.perf_counter()
        reached = [(output, slope) for output, slope in slopes if slope is not None and output.requires_grad]
        if reached:
            torch.autograd.backward([output for output, _ in reached], [slope for _, slope in reached])
        optimiser.step()
        optimiser.zero_grad()
        networks = forward - start + time.perf_counter() - back + cost
        rounds.append((networks + own - cost, networks, own - cost))
    return [1000 * statistics.median(column) for column in zip(*rounds, strict=True)]


def own_work(
    method: Method, batch: Batch, outputs: Outputs, teacher_outputs: Outputs | None
) -> tuple[float, list[tuple[Tensor, Tensor | None]], Outputs]:
    """Return the seconds of the loss and its gradient, the gradient by output, and the detached outputs."""

    def detached(x: Tensor) -> Tensor:
        return x.detach().requires_grad_()

    cut = Outputs(
        {key: detached(x) for key, x in outputs.stages.items()}, detached(outputs.embedding), detached(outputs.logits)
    )
    start = time.perf_counter()
    torch.stack(list(method.loss(batch, cut, teacher_outputs).values())).sum().backward()
    seconds = time.perf_counter() - start
    pairs = [(outputs.stages[key], x.grad) for key, x in cut.stages.items()]
    return seconds, [*pairs, (outputs.embedding, cut.embedding.grad), (outputs.logits, cut.logits.grad)], cut


def test_share_of_the_methods_own_work() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    report(f"\n{'method':34}{'step ms':>9}{'networks':>10}{'own':>8}{'share':>8}")
    for name in METHODS.names():
        entry = METHODS.get(name).entry
        if entry.needs.learns != "batches":  # the networks are part of their loss, or the loop is another's
            continue
        for stage in entry.stages_for(entry.Settings()):
            whole, networks, own = step_times(name, stage)
            label = f"{name} ({stage.name})"
            report(f"{label:34}{whole:9.2f}{networks:10.2f}{own:8.2f}{100 * own / whole:7.1f}%")
    torch.set_num_threads(threads)
