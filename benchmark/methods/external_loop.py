"""What a method is that another library trains, and the names of those that the bridge to Avalanche brings."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.methods import METHODS, Method, Needs

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from benchmark.backbones.network import Network


@dataclass(frozen=True)
class Experiences:
    """Images of old classes and of new ones by their positions, and what a strategy trains with.

    labels: N, of all images by position, in the student's label space, where old classes stand first; old, new: their
    positions; old_classes: how many; plain, augmented: pixels of positions, B x C x H x W on ``device``, as they are
    and in random views; forward: the context of a network's forward pass; ended: to be told after every step the loss
    and the number of images; whether that was the last one.
    """

    labels: Tensor
    old: Tensor
    new: Tensor
    old_classes: int
    plain: Callable[[Tensor], Tensor]
    augmented: Callable[[Tensor], Tensor]
    device: torch.device
    forward: Callable[[], AbstractContextManager[object]]
    optimiser: torch.optim.Optimizer
    steps: int
    batch_size: int
    ended: Callable[[Tensor, int], bool]


class ExperienceMethod(Method):
    """Base of methods whose loop is another library's: experience 0 is the teacher's, on 1 the student trains.

    They have the steps, images per step, optimiser, rate, crops and exemplars of every method, and draw batches of
    their own. Nothing of it is kept on the way: broken off, such a training starts anew.
    """

    needs = Needs(labels="extended", start="teacher", learns="experiences")

    def learn(self, student: Network, experiences: Experiences) -> None:
        """Train the student in place, until a step was the last one."""
        raise NotImplementedError


for _name, _entry, _help in (
    ("naive", "Naive", "Train on by cross-entropy on new images alone; Avalanche's Naive."),
    ("lwf", "LwF", "Cross-entropy, and old outputs kept by distillation; Avalanche's LwF."),
    ("replay", "Replay", "Half of each batch replays exemplars of old classes; Avalanche's Replay."),
    ("ewc", "EWC", "Hold weights as far as old classes need them; Avalanche's EWC."),
    ("der", "DER", "Replay exemplars with the logits they had; Avalanche's DER."),
    ("icarl", "ICaRL", "Sigmoid outputs, old ones distilled, and nearest means of exemplars; Avalanche's ICaRL."),
    ("joint", "Joint", "Train a fresh network on all images of all classes; Avalanche's JointTraining."),
):
    METHODS.register_lazy(f"avalanche/{_name}", f"benchmark.bridges.avalanche.strategies:{_entry}", help=_help)

METHODS.register_unavailable(
    "avalanche/bic",
    "Avalanche 0.6.0 breaks off in its bias correction, where it passes torch an argument that is no more; "
    "take wa, or --set protocol.rebalance=align, which correct the same bias",
)
METHODS.register_unavailable(
    "avalanche/feature-distillation",
    "Avalanche 0.6.0 passes torch's mse_loss an argument that it does not have; take lucir, which keeps embeddings too",
)
