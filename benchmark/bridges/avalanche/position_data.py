"""A run's images for Avalanche's strategies: positions stand for images, and networks load the pixels themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.backbones.network import Backbone, Network
from benchmark.bridges.avalanche.benchmark import two_experiences
from benchmark.methods.external_loop import Experiences


def position_benchmark(experiences: Experiences) -> Any:
    """Return an Avalanche benchmark of positions in place of images.

    Avalanche requires a test stream; it holds the same positions as the training stream.
    """
    positions = torch.cat([experiences.old, experiences.new])
    labels = experiences.labels[positions]
    dataset: Any = torch.utils.data.TensorDataset(positions, labels)
    dataset.targets = labels.tolist()
    return two_experiences(dataset, dataset, experiences.old_classes, int(labels.max()) + 1)


class PositionLoader:
    """Loads the pixels of positions: plain, or in random crops once ``augments`` is set.

    The latest batch is cached: a student and the networks that a strategy keeps see the same crops of it. Copies of a
    network share one loader.
    """

    def __init__(self, experiences: Experiences) -> None:
        self.experiences = experiences
        self.augments = False
        self._latest: tuple[Tensor, Tensor] | None = None

    def __call__(self, positions: Tensor) -> Tensor:
        """Return the pixels (B, C, H, W) of positions (B,)."""
        if self._latest is None or self._latest[0] is not positions:
            load = self.experiences.augmented if self.augments else self.experiences.plain
            self._latest = positions, load(positions)
        return self._latest[1]

    def __deepcopy__(self, memo: dict[int, Any]) -> PositionLoader:
        return self


class PositionModel(nn.Module):
    """A network from positions to logits."""

    def __init__(self, network: Network, loader: PositionLoader) -> None:
        super().__init__()
        self.network = network
        self.loader = loader

    def forward(self, positions: Tensor) -> Tensor:
        """Return the logits (B, K) in float32."""
        with self.loader.experiences.forward():
            logits: Tensor = self.network(self.loader(positions)).logits
        return logits.float()


class PositionBackbone(nn.Module):
    """A backbone from positions to embeddings."""

    def __init__(self, backbone: Backbone, loader: PositionLoader) -> None:
        super().__init__()
        self.backbone = backbone
        self.loader = loader

    def forward(self, positions: Tensor) -> Tensor:
        """Return the embeddings (B, D) in float32."""
        with self.loader.experiences.forward():
            embedding: Tensor = self.backbone(self.loader(positions))[1]
        return embedding.float()


class StepLimitPlugin:
    """An Avalanche plugin that reports every step and stops training after the last one.

    Args:
        ended: See ``Experiences.ended``.
    """

    def __init__(self, ended: Callable[[Tensor, int], bool]) -> None:
        self._ended = ended

    def after_training_iteration(self, strategy: Any, **_: Any) -> None:
        """Report the step."""
        if self._ended(strategy.loss, len(strategy.mb_y)):
            strategy.stop_training()


class LossScalePlugin:
    """An Avalanche plugin that multiplies the strategy's loss by a constant."""

    def __init__(self, scale: float) -> None:
        self._scale = scale

    def before_backward(self, strategy: Any, **_: Any) -> None:
        """Scale the loss."""
        strategy.loss = self._scale * strategy.loss
