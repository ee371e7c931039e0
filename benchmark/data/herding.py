"""Which images of a class to keep: those whose mean stays closest to the mean of all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from benchmark.data.image_set import IntArray


def herd(embeddings: npt.NDArray[np.float32], count: int) -> IntArray:
    """Herding: ``count`` rows of ``embeddings`` (N x D) in the order chosen, N at the most.

    Rows are L2-normalised; each choice brings the mean of those chosen closest to the mean of all. Rebuffi et al.
    (iCaRL), CVPR 2017, arXiv 1611.07725; Welling, ICML 2009.
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
