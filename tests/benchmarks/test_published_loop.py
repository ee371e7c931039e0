"""Speed of a training step against the loop of REFILLED's code: images of B x C x H x W, PyTorch's dropout and SGD.

    pytest -o addopts= -s tests/benchmarks/test_published_loop.py

The other side is written anew from what that code does (njulus/GKD: wide residual network with biases, batch norm, ReLU
and dropout; a plain loop of cross-entropy, momentum and weight decay), without its loading of images. Ours is
``fit``, with crops, history and schedule. conv4 is compared with its plain form: ReLU before pooling.
Both sides run in turn on one thread, each in a process of its own, because ours sets the memory allocator. Processor
time is compared; the smallest of several rounds counts.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.backbones.network import build_network
from benchmark.data import ImageSet, Task
from benchmark.data.augmentation import Normalisation
from benchmark.methods import LabelSpaces
from benchmark.spec import Training
from benchmark.system.progress import Silent
from benchmark.training import loop, select_device
from benchmark.training.initialisation import build_method

BATCH, CLASSES, ROUNDS = 64, 20, 2
STEPS = {"wrn-16-2": 3, "wrn-10-1": 12, "conv4-16": 60, "conv4-64": 20}
PLAIN = {
    "wrn-16-2": lambda: plain_wrn(16, 2), "wrn-10-1": lambda: plain_wrn(10, 1),
    "conv4-16": lambda: plain_conv4(16), "conv4-64": lambda: plain_conv4(64),
}  # fmt: skip


class PlainBlock(nn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(channels), nn.BatchNorm2d(width)])
        self.first, self.second = nn.Conv2d(channels, width, 3, 1, 1), nn.Conv2d(width, width, 3, stride, 1)
        apart = stride > 1 or channels != width
        self.shortcut: nn.Module = nn.Conv2d(channels, width, 1, stride) if apart else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        inner = self.first(F.relu(self.norms[0](x)))
        return self.second(F.dropout(F.relu(self.norms[1](inner)), 0.3, self.training)) + self.shortcut(x)


def plain_wrn(depth: int, width: int) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1)]
    before = 16
    for group in range(3):
        out = 16 * 2**group * width
        for number in range((depth - 4) // 6):
            layers.append(PlainBlock(before, out, 2 if group and not number else 1))
            before = out
    head = [nn.BatchNorm2d(before), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, CLASSES)]
    return nn.Sequential(*layers, *head)


def plain_conv4(width: int) -> nn.Module:
    layers: list[nn.Module] = []
    for block in range(4):
        channels = width if block else 3
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * width, CLASSES))


def plain_seconds(name: str) -> float:
    torch.set_num_threads(1)
    network, images, labels = PLAIN[name](), torch.randn(BATCH, 3, 32, 32), torch.arange(BATCH) % CLASSES
    optimiser = torch.optim.SGD(network.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True)
    network.train()
    times = []
    for _ in range(1 + ROUNDS):
        start = time.process_time()
        for _ in range(STEPS[name]):
            loss = F.cross_entropy(network(images), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        times.append(time.process_time() - start)
    return min(times[1:]) / STEPS[name]


def our_seconds(name: str) -> float:
    torch.set_num_threads(1)
    pixels = np.random.default_rng(0).integers(0, 256, (400, 32, 32, 3), dtype=np.uint8)
    labels, names = np.arange(400) % CLASSES, tuple(f"class {c}" for c in range(CLASSES))
    data = ImageSet("noise", pixels, labels, np.arange(400), names, {"train": tuple(range(CLASSES))})
    task = Task(data, tuple(range(CLASSES)), np.arange(400), np.empty(0, np.int64))
    network = build_network(name, channels=3, size=32, classes=CLASSES, seed=0)
    method = build_method("ce", None, LabelSpaces(task.classes, ()), network, None, 0, channels=3, size=32)
    statistics, training = Normalisation((0.5,) * 3, (0.25,) * 3), Training(steps=STEPS[name], batch_size=BATCH)
    device = select_device("cpu", "float32")
    times = []
    for _ in range(1 + ROUNDS):
        start = time.process_time()
        loop.fit(
            network, method, task, training, statistics, teacher=None, seed=0, device=device, progress=Silent(),
            title=name,
        )  # fmt: skip
        times.append(time.process_time() - start)
    return min(times[1:]) / STEPS[name]


@pytest.mark.parametrize(
    ("name", "least"), [("wrn-16-2", 1.05), ("wrn-10-1", 1.15), ("conv4-16", 1.3), ("conv4-64", 1.3)]
)
def test_step_is_faster_than_that_of_the_published_loop(name: str, least: float) -> None:
    theirs, ours = [], []
    for _ in range(2):
        for times, side in ((theirs, plain_seconds), (ours, our_seconds)):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                times.append(process.submit(side, name).result())
    ratio = min(theirs) / min(ours)
    sys.stdout.write(f"{name}: {BATCH / min(theirs):.0f} and {BATCH / min(ours):.0f} images/s, ratio {ratio:.2f}\n")
    assert ratio > least
