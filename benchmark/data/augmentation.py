"""Images as network input: normalised tensors, random crops and mirror images of whole batches at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

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


class Views(NamedTuple):
    """How a batch of B images is seen: how far down and right each one's crop begins, and whether it is mirrored.

    rows, columns: B pixels, negative where the crop begins in the padding; mirrored: B. All on the CPU.
    """

    rows: Tensor
    columns: Tensor
    mirrored: Tensor

    @classmethod
    def plain(cls, count: int) -> Views:
        """So many images as they are."""
        zeros = torch.zeros(count, dtype=torch.int64)
        return cls(zeros, zeros, zeros.bool())


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
        """The images in random views: shape as ``plain``."""
        return self.cut(positions, self.draw(len(positions), generator))

    def draw(self, count: int, generator: torch.Generator) -> Views:
        """Random crops, half of them mirrored where that keeps the class.

        ``generator`` lives on the CPU, so that every device sees the same crops.
        """
        rows, columns = torch.randint(0, 2 * self._padding + 1, (2, count, 1), generator=generator)[..., 0]
        flips = torch.randint(0, 2, (count, 1), generator=generator)[:, 0].bool()
        return Views(rows - self._padding, columns - self._padding, flips & self._mirrors)

    def cut(self, positions: Tensor, views: Views) -> Tensor:
        """A view of each image, its crop within the padding: shape as ``plain``."""
        device = self._pixels.device
        top, left, mirrored = (part.to(device)[:, None] for part in (views.rows, views.columns, views.mirrored))
        rows = top + self._padding + torch.arange(self._size[0], device=device)
        columns = left + self._padding + torch.arange(self._size[1], device=device)
        columns = torch.where(mirrored, columns.flip(1), columns)
        return self._normalised(self._pixels[positions.view(-1, 1, 1), rows[:, :, None], columns[:, None, :]])

    def _normalised(self, pixels: Tensor) -> Tensor:
        return (pixels.float() * self._scale - self._shift).permute(0, 3, 1, 2)
