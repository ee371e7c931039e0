"""Frozen networks over whole image sets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmark.backbones.network import Network
from benchmark.data.augmentation import ImageLoader, Normalisation
from benchmark.data.image_set import ImageSet, IntArray
from benchmark.data.task import Task
from benchmark.training.device import Device


def embed(
    network: Network,
    data: ImageSet,
    indices: IntArray,
    normalisation: Normalisation,
    device: Device,
    batch_size: int = 64,
    size: int = 0,
) -> Tensor:
    """Embeddings of the images at ``indices``, each computed once, not augmented: len(indices) x D float32.

    size: pixels of a side of what the network sees of their centres (0: all).
    """
    return _over(network, network.embed, data, indices, normalisation, device, batch_size, size)


def accuracy(
    network: Network, task: Task, indices: IntArray, normalisation: Normalisation, device: Device,
    batch_size: int = 64, size: int = 0,
) -> float | None:  # fmt: skip
    """Share of the images at ``indices`` whose class has the largest logit; None for no image; ``size`` as above."""
    if len(indices) == 0:
        return None
    logits = _over(network, lambda x: network(x).logits, task.data, indices, normalisation, device, batch_size, size)
    return float(np.mean(logits.argmax(1).cpu().numpy() == task.labels(indices)))


def _over(
    network: Network,
    compute: Callable[[Tensor], Tensor],
    data: ImageSet,
    indices: IntArray,
    normalisation: Normalisation,
    device: Device,
    batch_size: int,
    size: int,
) -> Tensor:
    images = ImageLoader(data, indices, normalisation, padding=0, size=size, device=device.torch)
    training = network.training
    network.eval()
    parts = []
    with torch.inference_mode(), device.autocast():
        for start in range(0, len(indices), batch_size):
            positions = torch.arange(start, min(start + batch_size, len(indices)), device=device.torch)
            parts.append(compute(images.plain(positions)).float())
    network.train(training)
    return torch.cat(parts)
