"""Hashes of what an image shows: copies of an image at other sizes have nearly equal ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SIDE = 16
_LIKE = 24
"""Copies differ in at most this many of 256 bits."""
_PLAIN = 32
"""An image whose hash has fewer bits of either kind shows too little to be told from others."""


def image_hashes(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the difference hash of each image, uint8 N x 32.

    An image is averaged to 16 rows of 17 grey values; each of 256 bits says whether a value is less than the next one
    in its row.

    Args:
        images: uint8, N x H x W x C.
    """
    hashes = [
        _area(_area(block.astype(np.float32).mean(3), SIDE, 1), SIDE + 1, 2)
        for block in np.array_split(images, max(1, len(images) // 256))
    ]
    grey = np.concatenate(hashes)
    return np.packbits((np.diff(grey, axis=2) > 0.5).reshape(len(grey), -1), axis=1)


def count_copies(known: npt.NDArray[np.uint8], images: npt.NDArray[np.uint8]) -> int:
    """Return how many hashes of ``known`` have a like one among ``images``, both as ``image_hashes`` returns them."""
    bits, others = (np.unpackbits(each, axis=1).astype(np.float32) for each in (known, images))
    told = (bits.sum(1) >= _PLAIN) & ((1 - bits).sum(1) >= _PLAIN)
    nearest = np.full(len(bits), np.inf)
    for block in np.array_split(others, max(1, len(others) // 4096)):
        if len(block):
            distance = bits.sum(1)[:, None] + block.sum(1)[None] - 2 * bits @ block.T
            nearest = np.minimum(nearest, distance.min(1))
    return int((told & (nearest <= _LIKE)).sum())


def _area(values: npt.NDArray[np.float32], bins: int, axis: int) -> npt.NDArray[np.float32]:
    """Average values over as many equal parts of an axis, which may cut through values."""
    count = values.shape[axis]
    zero = np.zeros_like(np.take(values, [0], axis))
    sums = np.concatenate([zero, np.cumsum(values, axis, dtype=np.float32)], axis)
    edges = np.linspace(0, count, bins + 1)
    low = np.minimum(edges.astype(int), count - 1)
    share = (edges - low).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    at_edges = np.take(sums, low, axis) * (1 - share) + np.take(sums, low + 1, axis) * share
    result: npt.NDArray[np.float32] = np.diff(at_edges, axis=axis) * (bins / count)
    return result
