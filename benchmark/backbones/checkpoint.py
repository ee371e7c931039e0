"""Networks that this suite has trained, from the files that its teachers are kept in."""

from __future__ import annotations

import json

from benchmark.backbones.network import Network, build_network
from benchmark.backbones.pretrained import Pretrained, WeightsFile
from benchmark.errors import InputError


def checkpoint(*, path: str) -> Pretrained:
    """The network in ``path``.safetensors, whose header says what it is, as ``training.TeacherStore`` writes it."""
    file = WeightsFile.at(f"{path}.safetensors")
    try:
        facts = json.loads(file.metadata()["benchmark"])
        backbone, classes, sees = facts["recipe"]["backbone"], len(facts["classes"]), facts["input"]
        channels, size = int(sees["channels"]), int(sees["size"])
        mean, std = (tuple(map(float, sees[name])) for name in ("mean", "std"))
        data = str(sees["data"])
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{file.path} does not say which network it holds, as the teachers trained here do; a timm model's "
            f"weights are named with it, as in timm:resnet50@{file.path.name}"
        ) from None

    def load(size: int) -> Network:
        network = build_network(backbone, channels=channels, size=size, classes=classes, seed=0)
        file.fill(network, file.tensors(), backbone)
        return network

    return Pretrained(f"{backbone}@{file.sha256[:8]}", file.path.name, file.sha256, size, mean, std, load, data)
