"""Pretrained teachers: trained networks with their own classes, input size and normalisation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from benchmark.backbones.network import Backbone, Network
from benchmark.errors import InputError, os_reason


@dataclass(frozen=True)
class Pretrained:
    """A trained network: its identity and how to load it.

    Attributes:
        name: name in tables and records; it identifies these weights.
        weights: name of the weights file.
        sha256: hash of the file's content.
        size: side of the network's input in pixels.
        mean: mean of each input channel, on the scale 0..1.
        std: standard deviation of each input channel, on the scale 0..1.
        load: builds the network with its own head for an input of the given size.
        data: fingerprint of the suite's data set that it was trained on; empty for others.
    """

    name: str
    weights: str
    sha256: str
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    load: Callable[[int], Network] = field(compare=False, repr=False)
    data: str = ""

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


@dataclass(frozen=True)
class WeightsFile:
    """A safetensors file. Reading it runs no code.

    Attributes:
        path: the file.
        sha256: hash of its content.
    """

    path: Path
    sha256: str

    @classmethod
    def at(cls, path: str) -> WeightsFile:
        """Open a file.

        Args:
            path: path of the file; ``~`` is the user's home.

        Raises:
            InputError: the file cannot be read.
        """
        file = Path(path).expanduser()
        return cls(file, file_digest(file))

    def metadata(self) -> dict[str, str]:
        """Return the text in its header.

        Raises:
            InputError: the file has another format.
        """
        try:
            with safetensors.safe_open(self.path, framework="pt") as file:
                return file.metadata() or {}
        except (OSError, SafetensorError) as error:
            raise InputError(f"{self.path} is not a safetensors file ({error})") from None

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name.

        Raises:
            InputError: the file has another format.
        """
        try:
            return safetensors.torch.load_file(self.path)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{self.path} is not a safetensors file ({error})") from None

    def fill(self, module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
        """Load tensors into a module.

        Args:
            module: the module.
            tensors: the tensors by name.
            what: name of the module, for the message.

        Raises:
            InputError: names or shapes are not the module's.
        """
        try:
            module.load_state_dict(tensors)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{self.path} does not hold the weights of {what}: {reason}") from None


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's content.

    Args:
        path: the file.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read the weights {path} ({os_reason(error)})") from None
