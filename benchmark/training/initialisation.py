"""How a student is put together: the method over both networks' taps, where it starts from, its head."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from benchmark.backbones.network import Network
from benchmark.hashing import derive_seed
from benchmark.methods import METHODS, LabelSpaces, Method, Shapes, Stage


def tap_shapes(network: Network, channels: int, size: int) -> Shapes:
    """Shapes of a network's taps for one image of that size, seen by a forward pass in eval mode."""
    training = network.training
    network.eval()
    with torch.no_grad():
        outputs = network(torch.zeros(1, channels, size, size, device=next(network.parameters()).device))
    network.train(training)
    taps = {**outputs.stages, "embedding": outputs.embedding, "logits": outputs.logits}
    return Shapes({name: tuple(value.shape[1:]) for name, value in taps.items()})


def start_from(teacher: Network, student: Network, labels: LabelSpaces) -> None:
    """Copy the teacher's backbone and its head's rows of the classes that both have; other rows stay as drawn."""
    student.backbone.load_state_dict(teacher.backbone.state_dict())
    rows, teacher_rows = labels.shared()
    with torch.no_grad():
        student.head.weight[rows] = teacher.head.weight[teacher_rows]
        student.head.bias[rows] = teacher.head.bias[teacher_rows]


_BALANCED_SHARE = 0.3


def with_balance(stages: list[Stage]) -> list[Stage]:
    """The stages, and one more that goes on with the last on balanced classes at a tenth of the rate, in one budget."""
    shorter = [dataclasses.replace(stage, share=stage.share * (1 - _BALANCED_SHARE)) for stage in stages]
    last = dataclasses.replace(
        stages[-1], name="balanced", continues=stages[-1].name, share=_BALANCED_SHARE, reset_head=False, lr=0.1,
        balanced=True,
    )  # fmt: skip
    return [*shorter, last]


def align_head(student: Network, old: list[bool]) -> None:
    """Scale the head's rows of new classes to the mean norm of the old ones' (Zhao et al., CVPR 2020)."""
    weight = student.head.weight
    rows = torch.tensor(old, device=weight.device)
    with torch.no_grad():
        weight[~rows] *= weight[rows].norm(dim=1).mean() / weight[~rows].norm(dim=1).mean().clamp_min(1e-12)


def build_method(
    name: str, settings: Any, labels: LabelSpaces, student: Network, teacher: Network | None, seed: int,
    *, channels: int, size: int,
) -> Method:  # fmt: skip
    """The method of that name and those settings (None: its defaults), its connector drawn from ``seed``.

    channels, size: of the networks' input.
    """
    chosen = METHODS.get(name).entry
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "connector"))
        return chosen(
            chosen.Settings() if settings is None else settings,
            labels,
            tap_shapes(student, channels, size),
            tap_shapes(teacher, channels, size) if teacher is not None else Shapes({}),
        )
