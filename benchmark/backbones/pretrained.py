"""Pretrained teachers: trained networks with their own classes, input size and normalisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.backbones.network import Backbone, Network
from benchmark.backbones.weights import file_digest as file_digest
from benchmark.errors import InputError


@dataclass(frozen=True)
class Knowledge:
    """What a pretrained teacher was trained on, as far as its file says.

    Attributes:
        fingerprint: fingerprint of the suite's data set; empty for others.
        dataset: name of the data set; empty if it is not known.
        classes: names of its classes; empty if they are not known.
        images: perceptual hashes of images that it was trained on, in hexadecimal.
    """

    fingerprint: str = ""
    dataset: str = ""
    classes: tuple[str, ...] = ()
    images: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pretrained:
    """A trained network: its identity and how to load it.

    Attributes:
        name: name in tables and records; it identifies these weights.
        weights: name of the weights file.
        sha256: hash of the weights.
        size: side of the network's input in pixels.
        mean: mean of each input channel, on the scale 0..1.
        std: standard deviation of each input channel, on the scale 0..1.
        load: builds the network with its own head for an input of the given size.
        knows: what it was trained on.
    """

    name: str
    weights: str
    sha256: str
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    load: Callable[[int], Network] = field(compare=False, repr=False)
    knows: Knowledge = Knowledge()

    def config(self) -> dict[str, Any]:
        """Return everything else than name and size that determines a result, as JSON values."""
        return {"weights": self.sha256, "mean": list(self.mean), "std": list(self.std)}

    def network(self) -> Network:
        """Load the network with its own head. It takes pixels on the scale 0..1 of any size."""
        loaded = self.load(self.size)
        backbone = PreprocessedBackbone(loaded.backbone, self.size, self.mean, self.std)
        network = Network(backbone, loaded.head.out_features)
        network.head = loaded.head
        memory_format: Any = torch.channels_last
        return network.to(memory_format=memory_format)


class PreprocessedBackbone(Backbone):
    """A backbone with the preprocessing that it was trained with. It takes pixels on the scale 0..1.

    Grey images are repeated for a colour network; colours are averaged for a grey network. Other sizes are resized by
    bicubic interpolation with antialiasing.

    Args:
        backbone: the backbone.
        size: side of its input in pixels.
        mean: mean of each input channel.
        std: standard deviation of each input channel.
    """

    def __init__(self, backbone: Backbone, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.backbone = backbone
        self.size = size
        self.dim = backbone.dim
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Map images B x C x H x W to ``(stages, embedding)``."""
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        channels, expected = images.shape[1], mean.shape[1]
        if channels != expected and 1 not in (channels, expected):
            raise InputError(f"the pretrained network takes images of {expected} channels, these have {channels}")
        if expected == 1 and channels > 1:
            images = images.mean(1, keepdim=True)
        if images.shape[2:] != (self.size, self.size):
            images = F.interpolate(images, (self.size, self.size), mode="bicubic", antialias=True)
        stages, embedding = self.backbone((images - mean) / std)
        return stages, embedding

    def initialise_head(self, head: nn.Linear) -> None:
        """Draw the weights of a head as the backbone's family does."""
        self.backbone.initialise_head(head)
