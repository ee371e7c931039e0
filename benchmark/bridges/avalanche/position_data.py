"""A run's images for Avalanche's strategies: positions stand for them, and networks see them as every method does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.backbones.network import Backbone, Network
from benchmark.bridges.avalanche.benchmark import two_experiences
from benchmark.methods.external_loop import Experiences


def position_benchmark(experiences: Experiences) -> Any:
    """Experiences as a benchmark of positions in the place of images; its test stream, which has to be, is the same."""
    positions = torch.cat([experiences.old, experiences.new])
    labels = experiences.labels[positions]
    both: Any = torch.utils.data.TensorDataset(positions, labels)
    both.targets = labels.tolist()
    return two_experiences(both, both, experiences.old_classes, int(labels.max()) + 1)


class Eye:
    """Pixels of positions: as they are, or in random views once it ``augments``.

    The batch seen last is seen the same way again, by whatever network: a student and what a strategy keeps of it look
    at the same views. Copies that strategies make of their networks have one eye in common.
    """

    def __init__(self, experiences: Experiences) -> None:
        self.experiences = experiences
        self.augments = False
        self._last: tuple[Tensor, Tensor] | None = None

    def __call__(self, positions: Tensor) -> Tensor:
        if self._last is None or self._last[0] is not positions:
            see = self.experiences.augmented if self.augments else self.experiences.plain
            self._last = positions, see(positions)
        return self._last[1]

    def __deepcopy__(self, memo: dict[int, Any]) -> Eye:
        return self


class Seeing(nn.Module):
    """A network from positions to logits."""

    def __init__(self, network: Network, eye: Eye) -> None:
        super().__init__()
        self.network = network
        self.eye = eye

    def forward(self, positions: Tensor) -> Tensor:
        with self.eye.experiences.forward():
            logits: Tensor = self.network(self.eye(positions)).logits
        return logits.float()


class SeeingEmbedding(nn.Module):
    """A backbone from positions to embeddings."""

    def __init__(self, backbone: Backbone, eye: Eye) -> None:
        super().__init__()
        self.backbone = backbone
        self.eye = eye

    def forward(self, positions: Tensor) -> Tensor:
        with self.eye.experiences.forward():
            embedding: Tensor = self.backbone(self.eye(positions))[1]
        return embedding.float()


class Pace:
    """An Avalanche plugin that tells of every step, and stops after the last one."""

    def __init__(self, ended: Callable[[Tensor, int], bool]) -> None:
        self._ended = ended

    def after_training_iteration(self, strategy: Any, **_: Any) -> None:
        """The step is done."""
        if self._ended(strategy.loss, len(strategy.mb_y)):
            strategy.stop_training()


class Weight:
    """An Avalanche plugin that multiplies the strategy's loss."""

    def __init__(self, weight: float) -> None:
        self._weight = weight

    def before_backward(self, strategy: Any, **_: Any) -> None:
        """The loss is whole."""
        strategy.loss = self._weight * strategy.loss
