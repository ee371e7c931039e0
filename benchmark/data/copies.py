"""Find images that are copies of one another: the same pixels, or the same picture saved again."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

NEAR = 0.005
"""Two images are near-duplicates if, at a side of 32 pixels at most, their mean squared difference is at most this
share of either one's variance. JPEG of quality 50 makes about 0.002 of a photograph."""

_SIDE = 32
_BLOCKS = 4
_NEIGHBOURS = 8
_ROWS = 256


def group_copies(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Group copies of images.

    Equal pixels make a group, and so do near-duplicates, such as one picture saved as PNG and JPEG. Turned, mirrored
    or cropped copies are not found.

    Args:
        images: N x H x W x C.

    Returns:
        N group ids: the index of the first image of the group.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(images)
    first: dict[bytes, int] = {}
    original = np.array([first.setdefault(hashlib.sha256(image).digest(), i) for i, image in enumerate(images)])
    distinct = np.unique(original)
    a, b = _near_pairs(images, distinct)
    a, b = np.concatenate([np.arange(count), a]), np.concatenate([original, b])
    graph = coo_array((np.ones(len(a), bool), (a, b)), (count, count))
    _, component = connected_components(graph, directed=False)
    _, lowest, group = np.unique(component, return_index=True, return_inverse=True)
    groups: npt.NDArray[np.int64] = lowest[group].astype(np.int64)
    return groups


def _near_pairs(
    images: npt.NDArray[np.uint8], distinct: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the pairs of near-duplicates among the images at ``distinct``.

    Means over 16 blocks differ by no more than the images do, so the nearest neighbours in these means are candidates.
    """
    from scipy.spatial import KDTree

    blocks, variances = [], []
    for start in range(0, len(distinct), _ROWS):
        small = _shrink(images[distinct[start : start + _ROWS]], _SIDE)
        blocks.append(_shrink(small, _BLOCKS).mean(3).reshape(len(small), -1))
        variances.append(small.var((1, 2)).mean(1))  # within channels: colour alone makes no picture
    means, variance = np.concatenate(blocks), np.concatenate(variances)
    reach = np.sqrt(NEAR * variance * means.shape[1])
    _, found = KDTree(means).query(means, _NEIGHBOURS + 1, distance_upper_bound=float(reach.max()) + 1e-6)
    a, b = np.repeat(np.arange(len(distinct)), found.shape[1]), found.ravel()
    a, b = a[a < b], b[a < b]
    a, b = a[b < len(distinct)], b[b < len(distinct)]  # where fewer neighbours are in reach, the others have number N
    distance = np.linalg.norm(means[a] - means[b], axis=1)
    candidate = distance <= 1.1 * np.minimum(reach[a], reach[b]) + 1e-6  # blocks of unequal size are not exact
    a, b = a[candidate], b[candidate]
    limit = NEAR * np.minimum(variance[a], variance[b])
    a, b = distinct[a], distinct[b]
    near = np.zeros(len(a), bool)
    for start in range(0, len(a), _ROWS):
        span = slice(start, start + _ROWS)
        difference = _shrink(images[a[span]], _SIDE) - _shrink(images[b[span]], _SIDE)
        near[span] = (difference**2).mean((1, 2, 3)) <= limit[span]
    return a[near], b[near]


def _shrink(images: npt.NDArray[Any], side: int) -> npt.NDArray[np.float32]:
    """Return means over blocks: M x S x S x C with S = ``side``, or smaller images as they are."""
    shrunk = images.astype(np.float32)
    for axis in (1, 2):
        length = images.shape[axis]
        if length > side:
            starts = np.arange(side) * length // side
            sizes = np.diff([*starts, length]).astype(np.float32)
            sums = np.add.reduceat(shrunk, starts, axis=axis)
            shrunk = sums / sizes.reshape([-1 if i == axis else 1 for i in range(4)])
    return shrunk
