"""What every network here is: a backbone with named taps and a linear head."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Outputs:
    """What a network yields for a batch.

    stages: maps by name, B x C x H x W; embedding: B x D, the pooled penultimate features; logits: B x classes.
    """

    stages: dict[str, Tensor]
    embedding: Tensor
    logits: Tensor

    def tap(self, name: str) -> Tensor:
        """A stage by name, ``embedding`` or ``logits``; an unknown name raises ``KeyError`` with those there are."""
        if name == "embedding":
            return self.embedding
        if name == "logits":
            return self.logits
        if name not in self.stages:
            raise KeyError(f"no tap {name!r}; there are {', '.join(self.stages)}, embedding, logits")
        return self.stages[name].float()

    def float(self) -> Outputs:
        """The same in float32: what relation losses need after a forward pass in lower precision; maps when tapped."""
        return Outputs(self.stages, self.embedding.float(), self.logits.float())


class Backbone(nn.Module):
    """Maps images to ``(stages, embedding)``; ``dim`` is the embedding's length."""

    dim: int

    def forward(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        raise NotImplementedError


def tapped(features: Tensor, parts: Iterable[nn.Module]) -> dict[str, Tensor]:
    """Features through one part after the other: the maps ``stage1``, ``stage2``, ..."""
    stages = {}
    for number, part in enumerate(parts, 1):
        features = part(features)
        stages[f"stage{number}"] = features
    return stages


def initialise(backbone: nn.Module, slope: float = 0.0) -> None:
    """Draw convolutions normal with variance 2 / ((1 + slope^2) fan-out), biases 0, for ReLU of that negative slope.

    He et al. 2015, arXiv 1502.01852. The fan-out is that of a group. Batch norm starts as torch has it, at scale 1.
    """
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels // module.groups * math.prod(module.kernel_size)
            nn.init.normal_(module.weight, 0.0, math.sqrt(2 / ((1 + slope**2) * fan_out)))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class CosineHead(nn.Linear):
    """Cosines between embedding and class rows, times a learnt scale: logits of LUCIR (Hou et al., CVPR 2019)."""

    def __init__(self, rows: Tensor, scale: float) -> None:
        super().__init__(rows.shape[1], rows.shape[0], bias=False, device=rows.device)
        self.weight = nn.Parameter(rows.detach().clone())
        self.scale = nn.Parameter(torch.tensor(scale, device=rows.device))

    def forward(self, embedding: Tensor) -> Tensor:
        """Embeddings B x D to logits B x classes; a row of zeros has cosine 0 to everything."""
        unit = nn.functional.normalize
        return self.scale * nn.functional.linear(unit(embedding, dim=1), unit(self.weight, dim=1))


class NormalisedHead(nn.Linear):
    """A linear head on L2-normalised embeddings."""

    def forward(self, embedding: Tensor) -> Tensor:
        """Embeddings B x D to logits B x classes."""
        return super().forward(nn.functional.normalize(embedding, dim=1))


class Network(nn.Module):
    """A backbone and a linear head over ``classes`` classes."""

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head: nn.Linear = nn.Linear(backbone.dim, classes)

    def forward(self, images: Tensor) -> Outputs:
        stages, embedding = self.backbone(images)
        return Outputs(stages, embedding, self.head(embedding))

    def embed(self, images: Tensor) -> Tensor:
        """The embedding alone: B x D."""
        embedding: Tensor = self.backbone(images)[1]
        return embedding

    def replace_head(self, classes: int, seed: int) -> None:
        """Another head, over so many classes, drawn from ``seed`` alone."""
        with _drawing_from(seed):
            self.head = nn.Linear(self.backbone.dim, classes)

    def reset_head(self) -> None:
        """Draw the head's weights anew."""
        self.head.reset_parameters()

    @property
    def parameter_count(self) -> int:
        """Trainable numbers in backbone and head."""
        return sum(p.numel() for p in self.parameters())


def build_network(name: str, *, channels: int, size: int, classes: int, seed: int) -> Network:
    """The named backbone with a head, its weights drawn from ``seed`` alone, in channels_last."""
    from benchmark.backbones import BACKBONES

    match = BACKBONES.get(name)
    with _drawing_from(seed):
        network = Network(match.entry(channels=channels, size=size, **match.fields), classes)
    memory_format: Any = torch.channels_last
    return network.to(memory_format=memory_format)


@contextlib.contextmanager
def _drawing_from(seed: int) -> Iterator[None]:
    """Within, weights on the CPU are drawn from ``seed``; its generator is as before after it, all others always.

    ``torch.manual_seed`` seeds those of all devices, which takes far longer.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
