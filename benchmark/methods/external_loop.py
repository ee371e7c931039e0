"""Base of the methods that another library trains."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.methods import Method, Needs

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from benchmark.backbones.network import Network


@dataclass(frozen=True)
class Experiences:
    """Images of old and new classes, identified by position, and everything that a strategy needs for training."""

    labels: Tensor
    """Labels (N,) of all images by position, in the student's label space; old classes come first."""
    old: Tensor
    """Positions of the images of old classes."""
    new: Tensor
    """Positions of the images of new classes."""
    old_classes: int
    """Number of old classes."""
    plain: Callable[[Tensor], Tensor]
    """Pixels (B, C, H, W) of positions, on ``device``."""
    augmented: Callable[[Tensor], Tensor]
    """Pixels of positions in random crops."""
    device: torch.device
    forward: Callable[[], AbstractContextManager[object]]
    """Context of a forward pass (precision)."""
    optimiser: torch.optim.Optimizer
    steps: int
    batch_size: int
    ended: Callable[[Tensor, int], bool]
    """Called after every step with the loss and the number of images; returns whether it was the last step."""


class ExperienceMethod(Method):
    """Base of the methods whose loop is another library's: experience 0 is the teacher's, experience 1 the student's.

    Steps, images per step, optimiser, rate, crops and exemplars are those of every method; the batches are drawn by the
    library. There are no checkpoints: an interrupted training starts again.
    """

    needs = Needs(labels="extended", start="teacher", learns="experiences")

    def train(self, student: Network, experiences: Experiences) -> None:
        """Train the student in place, until ``experiences.ended`` returns True."""
        raise NotImplementedError
