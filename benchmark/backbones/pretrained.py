"""Teachers that come with weights, for classes of their own, and see images as they were trained to."""

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
from benchmark.errors import InputError


@dataclass(frozen=True)
class Pretrained:
    """A trained network: what identifies it, and how to load it.

    name: as in tables and records, where it stands for these very weights; weights: the name of their file; sha256: of
    its content; size: pixels of a side of its input; mean, std: of its input's channels, on the scale 0..1;
    data: fingerprint of the data set it was trained on, where that is one of this suite; load: builds the network, with
    its own head, for an input of such a size.
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
        """All of it that determines a result, but its name and the size of its input, as plain JSON values."""
        return {"weights": self.sha256, "mean": list(self.mean), "std": list(self.std)}

    def network(self) -> Network:
        """The network with its own head, for pixels on the scale 0..1 of any size."""
        own = self.load(self.size)
        network = Network(PreprocessedBackbone(own.backbone, self.size, self.mean, self.std), own.head.out_features)
        network.head = own.head
        memory_format: Any = torch.channels_last
        return network.to(memory_format=memory_format)


class PreprocessedBackbone(Backbone):
    """A backbone behind what its images went through when it was trained: channels, size and normalisation.

    Takes pixels on the scale 0..1. Grey images are repeated for a network of colours, colours averaged for one of grey;
    another size is brought to its own by bicubic interpolation with antialiasing.
    """

    def __init__(self, backbone: Backbone, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.backbone = backbone
        self.size = size
        self.dim = backbone.dim
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Images B x C x H x W to ``(stages, embedding)``."""
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        channels, wanted = images.shape[1], mean.shape[1]
        if channels != wanted and 1 not in (channels, wanted):
            raise InputError(f"the pretrained network takes images of {wanted} channels, these have {channels}")
        if wanted == 1 and channels > 1:
            images = images.mean(1, keepdim=True)
        if images.shape[2:] != (self.size, self.size):
            images = F.interpolate(images, (self.size, self.size), mode="bicubic", antialias=True)
        stages, embedding = self.backbone((images - mean) / std)
        return stages, embedding


@dataclass(frozen=True)
class WeightsFile:
    """A safetensors file: nothing in it is executed when it is read."""

    path: Path
    sha256: str

    @classmethod
    def at(cls, path: str) -> WeightsFile:
        """The file at ``path``; one that cannot be read raises ``InputError``."""
        found = Path(path).expanduser()
        return cls(found, file_digest(found))

    def metadata(self) -> dict[str, str]:
        """The text in its header; a file of another format raises ``InputError``."""
        try:
            with safetensors.safe_open(self.path, framework="pt") as file:
                return file.metadata() or {}
        except (OSError, SafetensorError) as error:
            raise InputError(f"{self.path} is no safetensors file ({error})") from None

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name; a file of another format raises ``InputError``."""
        try:
            return safetensors.torch.load_file(self.path)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{self.path} is no safetensors file ({error})") from None

    def fill(self, module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
        """Load them into a module; names or shapes that are not its own raise ``InputError``."""
        try:
            module.load_state_dict(tensors)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{self.path} does not hold the weights of {what}: {reason}") from None


def file_digest(path: Path) -> str:
    """sha256 of a file's content; one that cannot be read raises ``InputError``."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read the weights {path} ({error.strerror or error})") from None
