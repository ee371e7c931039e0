"""Images as network input: normalised tensors, random crops and mirror images of whole batches at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmark.data.imageset import ImageSet, IntArray


@dataclass(frozen=True)
class Normalisation:
    """Channel means and standard deviations of the images a network was trained on, on the scale 0..1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, data: ImageSet, indices: IntArray) -> Normalisation:
        """Statistics of the images at ``indices``."""
        pixels = data.images[indices].reshape(-1, data.images.shape[-1]).astype(np.float32) / 255
        mean, std = pixels.mean(axis=0, dtype=np.float64), pixels.std(axis=0, dtype=np.float64)
        return cls(tuple(mean.tolist()), tuple(np.maximum(std, 1e-3).tolist()))


class Images:
    """Some images of a set on a device, padded with their background, ready to be cut into batches."""

    def __init__(
        self, data: ImageSet, indices: IntArray, normalisation: Normalisation, *, padding: int, device: torch.device
    ) -> None:
        pixels = np.pad(
            data.images[indices],
            ((0, 0), (padding, padding), (padding, padding), (0, 0)),
            constant_values=data.background,
        )
        self._pixels = torch.from_numpy(pixels).to(device)
        self._size = data.images.shape[1:3]
        self._padding = padding
        self._mirrors = data.mirrors
        self._scale = torch.tensor([1 / (255 * s) for s in normalisation.std], device=device)
        self._shift = torch.tensor(
            [m / s for m, s in zip(normalisation.mean, normalisation.std, strict=True)], device=device
        )

    def __len__(self) -> int:
        return len(self._pixels)

    def plain(self, positions: Tensor) -> Tensor:
        """The images as they are, normalised: B x C x H x W float32 in channels_last."""
        p, (height, width) = self._padding, self._size
        return self._normalised(self._pixels[positions, p : p + height, p : p + width])

    def augmented(self, positions: Tensor, generator: torch.Generator) -> Tensor:
        """The images at random crops, half of them mirrored where that keeps the class: shape as ``plain``.

        ``generator`` lives on the CPU, so that every device sees the same crops.
        """
        count, device = len(positions), self._pixels.device
        draws = torch.randint(0, 2 * self._padding + 1, (2, count, 1), generator=generator).to(device)
        flips = torch.randint(0, 2, (count, 1), generator=generator).bool().to(device)
        rows = draws[0] + torch.arange(self._size[0], device=device)
        columns = draws[1] + torch.arange(self._size[1], device=device)
        if self._mirrors:
            columns = torch.where(flips, columns.flip(1), columns)
        return self._normalised(self._pixels[positions.view(-1, 1, 1), rows[:, :, None], columns[:, None, :]])

    def _normalised(self, pixels: Tensor) -> Tensor:
        return (pixels.float() * self._scale - self._shift).permute(0, 3, 1, 2)
