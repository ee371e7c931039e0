"""Teachers that this suite trained, from their weights files."""

from __future__ import annotations

import json

from benchmark.backbones.network import Network, build_network
from benchmark.backbones.pretrained import Knowledge, Pretrained
from benchmark.backbones.weights import WeightsFile
from benchmark.errors import InputError


def checkpoint(*, path: str) -> Pretrained:
    """Open a teacher's weights file. Its header describes the network, as ``training.TeacherStore`` writes it.

    Args:
        path: the file.

    Raises:
        InputError: the file is not a teacher of this suite.
    """
    file = WeightsFile.at(path)
    metadata = file.metadata()
    try:
        facts = json.loads(metadata["benchmark"])
        backbone, classes, network_input = facts["recipe"]["backbone"], len(facts["classes"]), facts["input"]
        channels, size = int(network_input["channels"]), int(network_input["size"])
        mean, std = (tuple(map(float, network_input[name])) for name in ("mean", "std"))
        knows = Knowledge(
            str(network_input["data"]), str(network_input.get("dataset", "")), tuple(map(str, facts["classes"])),
            tuple(map(str, network_input.get("images", ()))),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError):
        kind = "" if file.is_safetensors else "is a file of torch.save and "
        raise InputError(
            f"{file.path} {kind}does not say which network it holds; only teachers trained by this suite do. For a "
            f"timm model, name the model too: timm:resnet50@{path}"
        ) from None

    def load(size: int) -> Network:
        network = build_network(backbone, channels=channels, size=size, classes=classes, seed=0)
        file.fill(network, file.tensors(), backbone)
        return network

    return Pretrained(f"{backbone}@{file.sha256[:8]}", file.path.name, file.sha256, size, mean, std, load, knows)
