"""Speed of training many students at once against an ordinary loop that trains one after the other.

    pytest -o addopts= -s tests/benchmarks/test_parallel_throughput.py

The table shows milliseconds per step of one student (conv4-16, images 32 x 32 x 1, five classes) and the ratio. A step
includes the loss, the optimiser and the schedule. Both sides run in turn, on one thread, and are measured in processor
time, because the machine may be busy. With a large batch the arithmetic of the student dominates, so there is little
to gain. The test asserts nothing.
"""

from __future__ import annotations

import sys
import time

import torch
from torch import Tensor

from benchmark.backbones.network import Network, Outputs, build_network
from benchmark.data.sampling import batches
from benchmark.hashing import derive_seed
from benchmark.methods import METHODS, Batch, LabelSpaces, Method, Shapes
from benchmark.spec import Training
from benchmark.system.progress import Silent
from benchmark.training import select_device
from benchmark.training.parallel_loop import fit_parallel

WAYS, SIZE, STEPS, ROUNDS = 5, 32, 40, 3
DEVICE = select_device("cpu", "float32")


def report(line: str) -> None:
    sys.stdout.write(line + "\n")


def build(name: str, count: int, images: int) -> tuple[list[Network], list[Method], Tensor, Tensor, Outputs]:
    entry = METHODS.get(name).entry
    labels = (torch.arange(images) % WAYS).expand(count, -1)
    teacher_outputs = Outputs({}, torch.randn(count, images, 256), torch.randn(count, images, WAYS))
    students = [build_network("conv4-16", channels=1, size=SIZE, classes=WAYS, seed=t) for t in range(count)]
    space = LabelSpaces(tuple(range(WAYS)), tuple(range(WAYS)))
    methods = [entry(entry.Settings(), space, Shapes({}), Shapes({})) for _ in students]
    for method, student, own_labels, embeddings in zip(
        methods, students, labels, teacher_outputs.embedding, strict=True
    ):
        method.prepare(student, own_labels, embeddings)
    return students, methods, torch.randn(count, images, 1, SIZE, SIZE), labels, teacher_outputs


def seconds_alone(name: str, training: Training, images: int) -> float:
    """Return the seconds per step of an ordinary loop over one student."""
    (student,), (method,), (pixels,), (labels,), teacher_outputs = build(name, 1, images)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    start = time.process_time()
    order = batches(labels.numpy(), training.batch_size, derive_seed(0, "batches"))
    student.train()
    for stage in method.stages():
        optimiser = torch.optim.SGD(student.parameters(), training.lr, 0.9, weight_decay=5e-4, nesterov=True)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, training.steps)
        for _ in range(round(stage.share * training.steps)):
            index = torch.from_numpy(next(order))
            teacher = Outputs({}, teacher_outputs.embedding[0, index], teacher_outputs.logits[0, index])
            terms = method.loss(Batch(labels[index], index, stage.name, 0.5), student(pixels[index]), teacher)
            optimiser.zero_grad()
            torch.stack(list(terms.values())).sum().backward()
            optimiser.step()
            scheduler.step()
    return (time.process_time() - start) / training.steps


def seconds_together(name: str, training: Training, images: int, count: int) -> float:
    """Return the seconds per step and student when ``count`` students are trained together."""
    students, methods, pixels, labels, teacher_outputs = build(name, count, images)
    start = time.process_time()
    fit_parallel(
        students, methods, pixels, labels, teacher_outputs, training,
        seeds=range(count), device=DEVICE, progress=Silent(), title="", group_size=count,
    )  # fmt: skip
    return (time.process_time() - start) / training.steps / count


def test_parallel_training_against_an_ordinary_loop() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sizes = (4, 20)
    report(f"\n{'method':10}{'batch':>6}{'alone':>8}" + "".join(f"{f'{n} at once':>18}" for n in sizes))
    for name in ("ce", "refilled"):
        for batch in (5, 25, 50):
            training = Training(steps=STEPS, batch_size=batch, lr=0.01)
            one, many = [], [[] for _ in sizes]  # type: ignore[var-annotated]
            for _ in range(ROUNDS):
                one.append(seconds_alone(name, training, max(25, batch)))
                for times, count in zip(many, sizes, strict=True):
                    times.append(seconds_together(name, training, max(25, batch), count))
            cells = "".join(f"{1000 * min(times):10.2f}{min(one) / min(times):6.2f} x" for times in many)
            report(f"{name:10}{batch:6}{1000 * min(one):8.2f}{cells}")
    torch.set_num_threads(threads)
