"""Nearest-centroid classification of many episodes, on features computed once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from benchmark.data.image_set import IntArray
from benchmark.losses import class_centers

_GRAM_ROWS = 16_384
_CHUNK = 1 << 22


def correct_queries(features: Tensor, support: IntArray, query: IntArray, *, normalise: bool) -> IntArray:
    """Count the queries of each episode that are nearest to the centroid of their own class.

    A query that is equally near to several centroids belongs to the first of them. Distances need inner products alone:
    with long features and few support images, all of them are read from one Gram matrix. Otherwise, or if the matrix is
    too large, the centroids are computed.

    Args:
        features: M x D.
        support: E x N x K rows of ``features``.
        query: E x N x Q rows of ``features``.
        normalise: Whether features are scaled to unit length first (Wang et al. 2019, arXiv 1911.04623, "L2N").

    Returns:
        E counts of N * Q queries.
    """
    if features.ndim != 2 or support.ndim != 3 or query.ndim != 3 or support.shape[:2] != query.shape[:2]:
        shapes = f"{tuple(features.shape)}, {support.shape}, {query.shape}"
        raise ValueError(f"expected features M x D, support E x N x K, query E x N x Q; got {shapes}")
    x = features.float()
    if normalise:
        x = torch.nn.functional.normalize(x, dim=1)
    ways, shots = support.shape[1:]
    # measured: a scattered entry of the matrix costs as much as eight adjacent numbers of a feature
    gram = x @ x.T if 64 + 8 * ways * shots <= x.shape[1] and len(x) <= _GRAM_ROWS else None
    per_episode = ways * query.shape[2] * (ways * shots if gram is not None else x.shape[1])
    size = max(1, _CHUNK // per_episode)
    counts = []
    for start in range(0, len(support), size):
        s = torch.from_numpy(support[start : start + size]).to(x.device)
        q = torch.from_numpy(query[start : start + size]).to(x.device)
        scores = _by_centroids(x, s, q) if gram is None else _by_gram(gram, s, q)
        truth = torch.arange(ways, device=x.device).view(1, ways, 1)
        counts.append((scores.argmax(3) == truth).sum((1, 2)).cpu().numpy())
    return np.concatenate(counts).astype(np.int64)


def class_means(features: Tensor, labels: IntArray, classes: int) -> Tensor:
    """Compute the unit mean of the L2-normalised features of each class.

    Args:
        features: M x D.
        labels: M labels.
        classes: Number of classes.

    Returns:
        classes x D; NaN for a class without features.
    """
    unit = torch.nn.functional.normalize(features.float(), dim=1)
    targets = torch.from_numpy(labels).to(unit.device)
    means = class_centers(unit, targets, classes)
    means[torch.bincount(targets, minlength=classes) == 0] = torch.nan
    return means


def nearest_mean_scores(features: Tensor, means: Tensor) -> Tensor:
    """Compute the cosine of each feature (M x D) with each unit mean (K x D): M x K; -inf for a mean of NaN."""
    unit = torch.nn.functional.normalize(features.float(), dim=1)
    return torch.where(means.isnan().any(1), -torch.inf, unit @ means.nan_to_num().T)


def _by_gram(gram: Tensor, support: Tensor, query: Tensor) -> Tensor:
    """Compute 2 <q, c> - <c, c> for every query and class of every episode: E x N x Q x N."""
    flat, width = gram.view(-1), len(gram)
    episodes, ways, shots = support.shape
    inner = flat[query.reshape(episodes, -1, 1) * width + support.reshape(episodes, 1, -1)]
    squared = flat[support.unsqueeze(3) * width + support.unsqueeze(2)].mean((2, 3))
    scores = 2 * inner.view(episodes, -1, ways, shots).mean(3) - squared.unsqueeze(1)
    return scores.view(episodes, ways, -1, ways)


def _by_centroids(x: Tensor, support: Tensor, query: Tensor) -> Tensor:
    """Compute the same from the centroids."""
    centroids = x[support].mean(2)
    scores = 2 * torch.einsum("enqd,ecd->enqc", x[query], centroids)
    return scores - centroids.square().sum(2)[:, None, None, :]
