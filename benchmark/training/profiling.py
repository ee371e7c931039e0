"""What training costs, found out on throw-away networks: seconds by a few steps, FLOPs and memory by a few images."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmark.backbones.network import Network
from benchmark.data.image_set import ImageSet, IntArray
from benchmark.data.task import Task
from benchmark.methods.base import Rebalance
from benchmark.spec import RunSpec
from benchmark.system.progress import Silent
from benchmark.training.device import Device
from benchmark.training.teacher_store import TeacherStore
from benchmark.training.trained_network import TrainedNetwork
from benchmark.training.trainer import Trainer

_IMAGES = 4
"""That a cost is measured on: it is proportional to their number."""

_ROUNDS = 1, 2, 8
"""Steps of the rounds. The difference of two is free of what training costs before its first step, which in the first
round is also what is loaded once."""

_SLOW = 1.0
"""Seconds of a step from which on the first two rounds are all there is."""


@dataclass(frozen=True)
class Cost:
    """Of a network: parameters, FLOPs of a forward pass and bytes kept for the backward pass, both for one image.

    FLOPs are those of convolutions and matrix products as ``torch.utils.flop_counter`` counts them, two to a
    multiplication and addition.
    """

    parameters: int
    forward_flops: float
    activation_bytes: float


class _TimingTrainer(Trainer):
    """Trains as ever, on the same images, but judges nothing and makes embeddings up."""

    def teacher(self, task: Task, backbone: str | None = None) -> TrainedNetwork:
        return super().teacher(_unjudged(task), backbone)

    def student(
        self, task: Task, teacher: TrainedNetwork, rebalance: Rebalance = "none", episode: tuple[int, int] | None = None
    ) -> TrainedNetwork:
        return super().student(_unjudged(task), teacher, rebalance, episode)

    def embed(self, trained: TrainedNetwork, data: ImageSet, indices: IntArray) -> Tensor:
        drawn = torch.randn(len(indices), trained.network.backbone.dim, generator=torch.Generator().manual_seed(0))
        return drawn.to(self.device.torch)


@dataclass(frozen=True)
class StepTimes:
    """Seconds per training step of the teacher and of one student, and both after a few of them."""

    teacher_step: float
    student_step: float
    teacher: TrainedNetwork
    student: TrainedNetwork


def profile_steps(
    spec: RunSpec, device: Device, make: Callable[[Trainer], tuple[TrainedNetwork, TrainedNetwork]]
) -> StepTimes:
    """Train throw-away networks for a few steps and time them.

    ``make`` has teacher and student made by the workshop it is given. A step's time is that of some more of them,
    without what precedes training; where it is more than a second, of one more.
    """
    times: list[tuple[float, float, int, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        for steps in _ROUNDS:
            brief = dataclasses.replace(
                spec,
                training=dataclasses.replace(spec.training, steps=steps),
                teacher=dataclasses.replace(spec.teacher, steps=steps),
            )
            teacher, student = make(_TimingTrainer(brief, TeacherStore(Path(folder)), device, Silent()))
            learnt = student.facts["steps"] * student.facts.get("students", 1)
            times.append((teacher.facts["seconds"], student.facts["loop_seconds"], steps, max(1, learnt)))
            if len(times) > 1 and max(_rate(times, 0), _rate(times, 1)) > _SLOW:
                break
    return StepTimes(_rate(times, 0), _rate(times, 1), teacher, student)


def network_cost(network: Network, channels: int, size: int, device: Device) -> Cost:
    """The cost of a network for images of that size, in the precision of ``device``."""
    images = torch.zeros(_IMAGES, channels, size, size, device=device.torch)
    images = images.contiguous(memory_format=torch.channels_last)
    training, trainable = network.training, [p.requires_grad for p in network.parameters()]
    network.train().requires_grad_(True)
    kept: dict[int, int] = {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    counter = FlopCounterMode(display=False)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    with contextlib.ExitStack() as stack:
        stack.enter_context(counter)
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor))
        stack.enter_context(device.autocast())
        outputs: Any = network(images)  # held until the storages are counted, so that no two share an address
    total = sum(kept.values())
    del outputs
    network.load_state_dict(state)
    network.train(training)
    for parameter, wanted in zip(network.parameters(), trainable, strict=True):
        parameter.requires_grad_(wanted)
    return Cost(network.parameter_count, counter.get_total_flops() / _IMAGES, total / _IMAGES)


def _rate(times: list[tuple[float, float, int, int]], which: int) -> float:
    """Seconds per step from the last two rounds, of the teacher (0) or the student (1)."""
    (saved, fewer), (seconds, steps) = ((round[which], round[2 + which]) for round in times[-2:])
    slope = (seconds - saved) / max(1, steps - fewer)
    return slope if slope > 0 else seconds / steps


def _unjudged(task: Task) -> Task:
    return dataclasses.replace(task, held_out=np.empty(0, np.int64))
