"""Projections of embeddings, small enough to store with a record."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def principal_components(embeddings: Tensor, dims: int) -> npt.NDArray[np.float16]:
    """Project embeddings on their leading principal axes, scaled to unit mean square length.

    The largest entry of each axis is positive, so the same embeddings always give the same signs.

    Args:
        embeddings: M x D.
        dims: Number of axes.

    Returns:
        M x min(dims, D, M).
    """
    x = embeddings.double()
    x = x - x.mean(0)
    left, scale, axes = torch.linalg.svd(x, full_matrices=False)
    largest = axes.abs().argmax(1, keepdim=True)
    projected = (left * scale * axes.gather(1, largest).sign().T)[:, :dims]
    total = projected.square().sum(1).mean().sqrt()
    return (projected / total.clamp_min(1e-12)).cpu().numpy().astype(np.float16)
