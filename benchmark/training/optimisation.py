"""The optimiser of a stage, its learning rate, and the steps of each stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from benchmark.backbones.network import Network
from benchmark.methods import Method, Stage
from benchmark.spec import Training


def share_steps(stages: Sequence[Stage], steps: int) -> list[tuple[Stage, int]]:
    """Divide the steps of a training among its stages.

    Returns:
        The stages that get steps, each with their number.

    Raises:
        ValueError: If the shares of the stages do not sum to 1.
    """
    total = sum(stage.share for stage in stages)
    if not math.isclose(total, 1.0, abs_tol=1e-6):
        raise ValueError(f"the shares of a method's stages sum to {total}, not to 1")
    edges = [0]
    share = 0.0
    for stage in stages:
        share += stage.share
        edges.append(round(share * steps))
    return [(stage, end - start) for stage, start, end in zip(stages, edges, edges[1:], strict=False) if end > start]


def build_optimiser(
    student: Network, method: Method, stage: Stage, steps: int, training: Training
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """Build SGD over the student and the method's connector, and the schedule of the stage."""
    parameters = [parameter for parameter in student.parameters() if parameter.requires_grad]
    if method.connector is not None:
        parameters += list(method.connector.parameters())
    optimiser = _SGD(
        parameters,
        lr=training.lr * stage.lr,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        nesterov=training.nesterov and training.momentum > 0,
    )
    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, _schedule(stage, steps, training))


class _SGD(torch.optim.SGD):
    """PyTorch's SGD without its decorators for the compiler, which import all of it: a second or more of each process.

    The optimiser is never compiled here; ``--compile`` is for networks.
    """

    add_param_group, zero_grad, state_dict, load_state_dict = (
        getattr(torch.optim.SGD, name).__wrapped__
        for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    )
    step = torch.no_grad()(torch.optim.SGD.step.__wrapped__)  # type: ignore[attr-defined]


def _schedule(stage: Stage, steps: int, training: Training) -> Callable[[int], float]:
    """Return the rate by step, as a share of the stage's: a linear warm-up, then milestones or a cosine."""
    warmup = round(training.warmup * steps)
    milestones = [round(share * steps) for share in training.decays()] if stage.final_lr is None else []
    final = stage.final_lr or 0.0

    def rate(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if milestones:
            return training.decay ** sum(step >= milestone for milestone in milestones)
        done = (step - warmup) / max(1, steps - warmup)
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))

    return rate
