"""Embeddings made small enough to be kept with a record."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def principal_components(embeddings: Tensor, dims: int) -> npt.NDArray[np.float16]:
    """The embeddings (M x D) on their leading principal axes: M x min(dims, D, M), of unit mean square in all.

    The largest entry of each axis is positive, so that the same embeddings always give the same signs.
    """
    x = embeddings.double()
    x = x - x.mean(0)
    left, scale, axes = torch.linalg.svd(x, full_matrices=False)
    largest = axes.abs().argmax(1, keepdim=True)
    kept = (left * scale * axes.gather(1, largest).sign().T)[:, :dims]
    total = kept.square().sum(1).mean().sqrt()
    return (kept / total.clamp_min(1e-12)).cpu().numpy().astype(np.float16)
