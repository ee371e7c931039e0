"""The cost of training, measured on throw-away networks: seconds, FLOPs and memory."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmark.backbones.network import Network
from benchmark.data.augmentation import Normalisation
from benchmark.data.image_set import ImageSet, IntArray
from benchmark.data.task import Task
from benchmark.spec import RunSpec
from benchmark.system.progress import Silent
from benchmark.training.device import Device
from benchmark.training.factory import Factory
from benchmark.training.teacher_store import TeacherStore
from benchmark.training.trained_network import TrainedNetwork
from benchmark.training.trainer import Trainer

_IMAGES = 4
"""Images on which FLOPs and memory are measured; both are proportional to their number."""

_ROUNDS = 1, 2, 8
"""Steps of the rounds. The difference of two rounds leaves out the cost before the first step; the first round also
loads libraries."""

_SLOW = 1.0
"""Seconds of a step from which the first two rounds are enough."""


@dataclass(frozen=True)
class Cost:
    """The cost of a network for one image.

    Attributes:
        parameters: Number of parameters.
        forward_flops: FLOPs of the convolutions and matrix products of a forward pass, as
            ``torch.utils.flop_counter`` counts them: two for a multiplication and addition.
        activation_bytes: Bytes kept for the backward pass.
    """

    parameters: int
    forward_flops: float
    activation_bytes: float


class _TimingFactory(Factory):
    """Builds the networks of the run, but evaluates nothing and draws embeddings at random."""

    def accuracy(self, network: Network, task: Task, normalisation: Normalisation) -> float | None:
        return None

    def embed(self, trained: TrainedNetwork, data: ImageSet, indices: IntArray, *, mirrored: bool = False) -> Tensor:
        embeddings = torch.randn(len(indices), trained.network.backbone.dim, generator=torch.Generator().manual_seed(0))
        return embeddings.to(self.device.torch)

    def train_embeddings(self, teacher: TrainedNetwork, task: Task, *, augmented: bool) -> Tensor:
        return self.embed(teacher, task.data, task.train)


class _TimingTrainer(Trainer):
    factory_type = _TimingFactory


@dataclass(frozen=True)
class StepTimes:
    """Seconds per training step.

    Attributes:
        teacher_step: Seconds of a step of the teacher.
        student_step: Seconds of a step of one student.
        teacher: The teacher after a few steps.
        student: The student after a few steps.
    """

    teacher_step: float
    student_step: float
    teacher: TrainedNetwork
    student: TrainedNetwork


def profile_steps(
    spec: RunSpec, device: Device, train: Callable[[Trainer], tuple[TrainedNetwork, TrainedNetwork]]
) -> StepTimes:
    """Train throw-away networks for a few steps and time them.

    Args:
        spec: The run.
        device: Device and precision.
        train: Trains teacher and student by the trainer it is given.

    Returns:
        Seconds per step, without the cost before the first step.
    """
    times: list[tuple[float, float, int, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        for steps in _ROUNDS:
            brief = dataclasses.replace(
                spec,
                training=dataclasses.replace(spec.training, steps=steps),
                teacher=dataclasses.replace(spec.teacher, steps=steps),
            )
            teacher, student = train(_TimingTrainer(brief, TeacherStore(Path(folder)), device, Silent()))
            student_steps = student.metadata["steps"] * student.metadata.get("students", 1)
            seconds = teacher.metadata["seconds"], student.metadata["loop_seconds"]
            times.append((*seconds, steps, max(1, student_steps)))
            if len(times) > 1 and max(_rate(times, 0), _rate(times, 1)) > _SLOW:
                break
    return StepTimes(_rate(times, 0), _rate(times, 1), teacher, student)


def network_cost(network: Network, channels: int, size: int, device: Device) -> Cost:
    """Measure the cost of a network, which is left unchanged.

    Args:
        network: The network.
        channels: Channels of its input.
        size: Side length of its input in pixels.
        device: Device and precision.
    """
    images = torch.zeros(_IMAGES, channels, size, size, device=device.torch)
    images = images.contiguous(memory_format=torch.channels_last)
    training, trainable = network.training, [p.requires_grad for p in network.parameters()]
    network.train().requires_grad_(True)
    saved: dict[int, int] = {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}

    def save(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    counter = FlopCounterMode(display=False)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    with contextlib.ExitStack() as stack:
        stack.enter_context(counter)
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor))
        stack.enter_context(device.autocast())
        outputs: Any = network(images)  # alive until the storages are counted, so that no two share an address
    total = sum(saved.values())
    del outputs
    network.load_state_dict(state)
    network.train(training)
    for parameter, requires_grad in zip(network.parameters(), trainable, strict=True):
        parameter.requires_grad_(requires_grad)
    return Cost(network.parameter_count, counter.get_total_flops() / _IMAGES, total / _IMAGES)


def _rate(times: list[tuple[float, float, int, int]], which: int) -> float:
    """Return the seconds per step of the teacher (0) or the student (1), from the last two rounds."""
    (earlier_seconds, earlier_steps), (seconds, steps) = ((round[which], round[2 + which]) for round in times[-2:])
    slope = (seconds - earlier_seconds) / max(1, steps - earlier_steps)
    return slope if slope > 0 else seconds / steps
