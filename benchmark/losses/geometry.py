"""Distances between the rows of a batch, with finite gradients at distance 0."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def unit_rows(x: Tensor) -> Tensor:
    """Divide the rows of x (..., C) by their L2 norm; a row of norm below 1e-12 stays, with a finite gradient."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    unit: Tensor = x / torch.where(norm > 1e-12, norm, 1.0)
    return unit


def noise_floor(x: Tensor, squares: Tensor) -> Tensor:
    """Return squared distances (B, B) at or below which two rows are equal up to rounding.

    The first term bounds the rounding of |a|^2 + |b|^2 - 2ab, the second that of the centring.

    Args:
        x: The rows (B, C).
        squares: Squared norms (B,) of the centred rows.
    """
    eps = torch.finfo(x.dtype).eps
    centring: Tensor = (4 * eps * torch.linalg.vector_norm(x, dim=1).max()).square()
    floor: Tensor = 8 * eps * (squares[:, None] + squares[None, :]) + centring
    return floor


class _PairwiseDistances(torch.autograd.Function):
    # stores one B x B matrix for the backward pass; the graph of the same formula stores four
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        centred = x - x.mean(0)
        gram = centred @ centred.T
        squares = gram.diagonal().clone()
        distances = gram.mul_(-2).add_(squares[:, None]).add_(squares)
        distances.masked_fill_(distances <= noise_floor(x, squares), 0).sqrt_()
        ctx.save_for_backward(centred, distances)
        return distances

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        centred, distances = ctx.saved_tensors
        pull = (grad / distances).masked_fill_(distances == 0, 0)
        pull = pull + pull.T
        gradient: Tensor = pull.sum(1, keepdim=True) * centred - pull @ centred
        return gradient


def pairwise_distances(x: Tensor) -> Tensor:
    """Return the Euclidean distances (B, B) between the rows of x (B, C), by the Gram matrix of batch-centred rows.

    Rows closer than rounding (0.1 % of the batch's spread in float32) have distance exactly 0, with gradient 0.
    """
    distances: Tensor = _PairwiseDistances.apply(x)
    return distances
