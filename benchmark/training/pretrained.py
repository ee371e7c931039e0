"""Teachers that are not trained here."""

from __future__ import annotations

from pathlib import Path

from benchmark.backbones.pretrained import Pretrained
from benchmark.data.augmentation import Normalisation
from benchmark.data.task import Task
from benchmark.hashing import content_key
from benchmark.system.progress import Progress
from benchmark.training.device import Device
from benchmark.training.embedding_cache import EmbeddingCache
from benchmark.training.trained_network import TrainedNetwork


def pretrained_teacher(
    pretrained: Pretrained, task: Task, device: Device, views: Path, progress: Progress, input_size: int
) -> TrainedNetwork:
    """A teacher with weights and classes of its own, in the place of one of ``task``.

    views: the folder of what teachers have made of images; input_size: ``Training``'s.
    """
    network = pretrained.network().to(device.torch).eval().requires_grad_(False)
    channels = task.data.images.shape[3]
    normalisation = Normalisation((0.0,) * channels, (1.0,) * channels)
    identity = {"backbone": pretrained.name, "size": pretrained.size, **pretrained.config()}
    memory = EmbeddingCache(network, identity, normalisation, task.data, device, views, progress, input_size)
    classes = network.head.out_features
    progress.say(
        f"teacher {pretrained.name} ({network.parameter_count:,} parameters), pretrained for {classes} classes of "
        f"its own, input {pretrained.size} x {pretrained.size}: no accuracy on these"
    )
    return TrainedNetwork(
        network, task, normalisation,
        {
            "backbone": pretrained.name, "key": content_key(identity), "seed": None, "accuracy": None,
            "parameters": network.parameter_count, "seconds": 0.0, "pretrained": True, "labels": "disjoint",
            "classes": classes, "weights": pretrained.weights, "weights_sha256": pretrained.sha256,
            "size": pretrained.size,
        },
        memory,
    )  # fmt: skip
