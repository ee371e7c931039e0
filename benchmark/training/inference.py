"""Embeddings and accuracy of frozen networks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmark.backbones.network import Network, at_least_float32
from benchmark.data.augmentation import ImageLoader, Normalisation
from benchmark.data.image_set import ImageSet, IntArray
from benchmark.data.task import Task
from benchmark.training.device import Device
from benchmark.training.finite import check_outputs


def embed(
    network: Network,
    data: ImageSet,
    indices: IntArray,
    normalisation: Normalisation,
    device: Device,
    batch_size: int = 64,
    size: int = 0,
    mirrored: bool = False,
) -> Tensor:
    """Embed images without augmentation.

    Args:
        network: Network; it is evaluated in eval mode.
        data: Images.
        indices: M indices into the data.
        normalisation: Input statistics of the network.
        device: Device and precision.
        batch_size: Images of a forward pass.
        size: Side length of the centre crop in pixels (0: the whole image).
        mirrored: Whether to embed the mirror images.

    Returns:
        M x D float32.

    Raises:
        DivergedError: An embedding is not finite.
    """
    embeddings = _forward_all(network, network.embed, data, indices, normalisation, device, batch_size, size, mirrored)
    return check_outputs(embeddings, "embeddings")


def accuracy(
    network: Network, task: Task, indices: IntArray, normalisation: Normalisation, device: Device,
    batch_size: int = 64, size: int = 0,
) -> float | None:  # fmt: skip
    """Return the share of images whose class has the largest logit, or None if there are none; arguments as above."""
    if len(indices) == 0:
        return None
    logits = _forward_all(
        network, lambda x: network(x).logits, task.data, indices, normalisation, device, batch_size, size
    )
    check_outputs(logits, "logits")
    return float(np.mean(logits.argmax(1).cpu().numpy() == task.labels(indices)))


def _forward_all(
    network: Network,
    compute: Callable[[Tensor], Tensor],
    data: ImageSet,
    indices: IntArray,
    normalisation: Normalisation,
    device: Device,
    batch_size: int,
    size: int,
    mirrored: bool = False,
) -> Tensor:
    images = ImageLoader(data, indices, normalisation, padding=0, size=size, device=device.torch)
    training = network.training
    network.eval()
    parts = []
    with torch.inference_mode(), device.autocast():
        for start in range(0, len(indices), batch_size):
            positions = torch.arange(start, min(start + batch_size, len(indices)), device=device.torch)
            pixels = images.mirrored(positions) if mirrored else images.plain(positions)
            parts.append(at_least_float32(compute(pixels)))
    network.train(training)
    return torch.cat(parts)
