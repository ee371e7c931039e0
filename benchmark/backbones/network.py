"""Networks: a backbone with named stages and a linear head."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


def at_least_float32(values: Tensor) -> Tensor:
    """Return the values in float32 if they are in a lower precision, else as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


@dataclass(frozen=True)
class Outputs:
    """The outputs of a network for a batch of B images.

    Attributes:
        stages: maps by name, B x C x H x W each.
        embedding: B x D, the pooled penultimate features.
        logits: B x classes.
    """

    stages: dict[str, Tensor]
    embedding: Tensor
    logits: Tensor

    def tap(self, name: str) -> Tensor:
        """Return one output.

        Args:
            name: name of a stage, ``embedding`` or ``logits``.

        Raises:
            KeyError: the network has no such output.
        """
        if name == "embedding":
            return self.embedding
        if name == "logits":
            return self.logits
        if name not in self.stages:
            raise KeyError(f"no tap {name!r}; there are {', '.join(self.stages)}, embedding, logits")
        return at_least_float32(self.stages[name])

    def float(self) -> Outputs:
        """Return embedding and logits in float32 at least, as relation losses need them. ``tap`` converts stages."""
        return Outputs(self.stages, at_least_float32(self.embedding), at_least_float32(self.logits))


class Backbone(nn.Module):
    """Maps images to ``(stages, embedding)``.

    Attributes:
        dim: length of the embedding.
    """

    dim: int

    def forward(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        raise NotImplementedError

    def initialise_head(self, head: nn.Linear) -> None:
        """Draw the weights of a head again if the family does not start from PyTorch's own; by default it does."""


def run_stages(features: Tensor, modules: Iterable[nn.Module]) -> dict[str, Tensor]:
    """Pass features through modules in sequence and return the output of each.

    Args:
        features: input of the first module.
        modules: the modules.

    Returns:
        Outputs by the names ``stage1``, ``stage2``, ...
    """
    stages = {}
    for number, module in enumerate(modules, 1):
        features = module(features)
        stages[f"stage{number}"] = features
    return stages


def initialise_he(backbone: nn.Module) -> None:
    """Draw all convolutions from a normal distribution of variance 2 / fan-out; their biases become 0.

    He et al. 2015, arXiv 1502.01852. The fan-out is that of one group. Batch norm keeps PyTorch's scale 1 and shift 0.

    Args:
        backbone: the module to initialise.
    """
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels // module.groups * math.prod(module.kernel_size)
            nn.init.normal_(module.weight, 0.0, math.sqrt(2 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class CosineHead(nn.Linear):
    """Cosines between embedding and class rows, times a learnt scale: the head of LUCIR (Hou et al., CVPR 2019).

    Fixed rows get no gradient. Weight decay shortens them all the same, which changes no cosine.

    Args:
        rows: classes x D, initial class rows.
        scale: initial scale.
        fixed: indices of the rows that do not learn.
    """

    def __init__(self, rows: Tensor, scale: float, fixed: Sequence[int] = ()) -> None:
        super().__init__(rows.shape[1], rows.shape[0], bias=False, device=rows.device)
        self.weight = nn.Parameter(rows.detach().clone())
        self.scale = nn.Parameter(torch.tensor(scale, device=rows.device))
        if len(fixed):
            learns = torch.ones(len(rows), 1, device=rows.device)
            learns[list(fixed)] = 0
            self.weight.register_hook(lambda gradient: gradient * learns)

    def forward(self, embedding: Tensor) -> Tensor:
        """Map embeddings B x D to logits B x classes. The cosine of a zero row is 0."""
        unit = nn.functional.normalize
        return self.scale * nn.functional.linear(unit(embedding, dim=1), unit(self.weight, dim=1))


class NormalisedHead(nn.Linear):
    """A linear head on L2-normalised embeddings."""

    def forward(self, embedding: Tensor) -> Tensor:
        """Map embeddings B x D to logits B x classes."""
        return super().forward(nn.functional.normalize(embedding, dim=1))


class Network(nn.Module):
    """A backbone and a linear head.

    Args:
        backbone: the backbone.
        classes: number of classes.
    """

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = self._new_head(classes)

    def forward(self, images: Tensor) -> Outputs:
        stages, embedding = self.backbone(images)
        return Outputs(stages, embedding, self.head(embedding))

    def embed(self, images: Tensor) -> Tensor:
        """Return the embedding, B x D, without logits."""
        embedding: Tensor = self.backbone(images)[1]
        return embedding

    def replace_head(self, classes: int, seed: int) -> None:
        """Replace the head.

        Args:
            classes: number of classes of the new head.
            seed: seed of its weights; the global generator is left unchanged.
        """
        with _drawing_from(seed):
            self.head = self._new_head(classes)

    def reset_head(self) -> None:
        """Draw new weights for the head from the CPU's global generator, so that every device gets the same."""
        device = self.head.weight.device
        self.head.cpu()
        self.head.reset_parameters()
        self.backbone.initialise_head(self.head)
        self.head.to(device)

    @property
    def parameter_count(self) -> int:
        """Number of parameters of backbone and head."""
        return sum(p.numel() for p in self.parameters())

    def _new_head(self, classes: int) -> nn.Linear:
        head = nn.Linear(self.backbone.dim, classes)
        self.backbone.initialise_head(head)
        return head


def build_network(name: str, *, channels: int, size: int, classes: int, seed: int) -> Network:
    """Build a backbone with a head, in channels_last.

    Args:
        name: name of the backbone.
        channels: channels of the images.
        size: side of the images in pixels.
        classes: number of classes.
        seed: seed of the weights; the global generator is left unchanged.
    """
    from benchmark.backbones import BACKBONES

    match = BACKBONES.get(name)
    with _drawing_from(seed):
        network = Network(match.entry(channels=channels, size=size, **match.fields), classes)
    memory_format: Any = torch.channels_last
    return network.to(memory_format=memory_format)


@contextlib.contextmanager
def _drawing_from(seed: int) -> Iterator[None]:
    """Seed the CPU's global generator inside the context and restore its state afterwards.

    Unlike ``torch.manual_seed``, this leaves the generators of other devices alone, which is much faster.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
