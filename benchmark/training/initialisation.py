"""The start of a student: its method, its weights and its head."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from benchmark.backbones.network import Network
from benchmark.hashing import derive_seed
from benchmark.methods import METHODS, LabelSpaces, Method, Shapes, Stage


def tap_shapes(network: Network, channels: int, size: int) -> Shapes:
    """Return the shapes of a network's taps for one image of that size, found by a forward pass in eval mode."""
    training = network.training
    network.eval()
    with torch.no_grad():
        outputs = network(torch.zeros(1, channels, size, size, device=next(network.parameters()).device))
    network.train(training)
    taps = {**outputs.stages, "embedding": outputs.embedding, "logits": outputs.logits}
    return Shapes({name: tuple(value.shape[1:]) for name, value in taps.items()})


def start_from(teacher: Network, student: Network, labels: LabelSpaces) -> None:
    """Copy the teacher's backbone, and the rows of its head for shared classes; other rows stay as drawn."""
    student.backbone.load_state_dict(teacher.backbone.state_dict())
    rows, teacher_rows = labels.shared()
    with torch.no_grad():
        student.head.weight[rows] = teacher.head.weight[teacher_rows]
        student.head.bias[rows] = teacher.head.bias[teacher_rows]


def draw_head(student: Network, seed: int, stage: Stage) -> None:
    """Draw the head of a student again; the global generator stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, "head", stage.name))
        student.reset_head()


_BALANCED_SHARE = 0.3


def with_balance(stages: list[Stage]) -> list[Stage]:
    """Add a stage that continues the last one on balanced classes, at a tenth of the rate and within the same steps."""
    shortened = [dataclasses.replace(stage, share=stage.share * (1 - _BALANCED_SHARE)) for stage in stages]
    balanced = dataclasses.replace(
        stages[-1], name="balanced", continues=stages[-1].name, share=_BALANCED_SHARE, reset_head=False, lr=0.1,
        balanced=True,
    )  # fmt: skip
    return [*shortened, balanced]


def align_head(student: Network, old: list[bool]) -> None:
    """Scale the head's rows of new classes to the mean norm of the old rows (Zhao et al., CVPR 2020).

    Args:
        student: Student.
        old: Whether each class is an old one.
    """
    weight = student.head.weight
    is_old = torch.tensor(old, device=weight.device)
    with torch.no_grad():
        weight[~is_old] *= weight[is_old].norm(dim=1).mean() / weight[~is_old].norm(dim=1).mean().clamp_min(1e-12)


def build_method(
    name: str, settings: Any, labels: LabelSpaces, student: Network, teacher: Network | None, seed: int,
    *, channels: int, size: int,
) -> Method:  # fmt: skip
    """Build a method for two networks.

    Args:
        name: Name of the method.
        settings: Its settings, or None for the defaults.
        labels: Classes of student and teacher.
        student: Student.
        teacher: Teacher, if there is one.
        seed: Seed of the connector's weights.
        channels: Channels of the networks' input.
        size: Side length of the networks' input in pixels.
    """
    entry = METHODS.get(name).entry
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "connector"))
        return entry(
            entry.Settings() if settings is None else settings,
            labels,
            tap_shapes(student, channels, size),
            tap_shapes(teacher, channels, size) if teacher is not None else Shapes({}),
        )
