"""Choose exemplars of a class so that their mean stays close to the mean of all its images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from benchmark.data.image_set import IntArray


def herd(embeddings: npt.NDArray[np.float32], count: int) -> IntArray:
    """Choose exemplars greedily: each choice brings the mean of the chosen rows closest to the mean of all rows.

    Rows are L2-normalised first. Rebuffi et al. (iCaRL), CVPR 2017, arXiv 1611.07725; Welling, ICML 2009.

    Args:
        embeddings: N x D.
        count: number of exemplars.

    Returns:
        Row indices in the order of choice, at most N.
    """
    rows = embeddings.astype(np.float64)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    mean = rows.mean(axis=0)
    chosen: list[int] = []
    total = np.zeros_like(mean)
    free = np.ones(len(rows), bool)
    for number in range(1, min(count, len(rows)) + 1):
        distances = np.linalg.norm(mean - (total + rows) / number, axis=1)
        pick = int(np.where(free, distances, np.inf).argmin())
        chosen.append(pick)
        free[pick] = False
        total += rows[pick]
    return np.asarray(chosen, np.int64)
