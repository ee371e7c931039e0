"""Images as network input: normalised tensors, random crops and mirror images of whole batches at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmark.data.imageset import ImageSet, IntArray

_COUNTED = 1024
"""Images whose values are counted at a time."""


@dataclass(frozen=True)
class Normalisation:
    """Channel means and standard deviations of the images a network was trained on, on the scale 0..1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, data: ImageSet, indices: IntArray) -> Normalisation:
        """Statistics of the images at ``indices``, from how often each value occurs."""
        values = (np.arange(256, dtype=np.float32) / 255).astype(np.float64)
        counts = np.zeros((data.images.shape[3], 256))
        for some in np.array_split(indices, max(1, -(-len(indices) // _COUNTED))):
            for channel, row in zip(np.moveaxis(data.images[some], 3, 0), counts, strict=True):
                row += np.bincount(channel.ravel(), minlength=256)
        shares = counts / counts.sum(axis=1, keepdims=True)
        mean = shares @ values
        std = np.sqrt((shares * (values - mean[:, None]) ** 2).sum(axis=1))
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
    """Some images of a set on a device, padded with their background, ready to be cut into batches.

    More than ``resident`` bytes stay where the set has them, and every batch is read from there.
    """

    def __init__(
        self, data: ImageSet, indices: IntArray, normalisation: Normalisation, *, padding: int, device: torch.device,
        resident: int = 2 << 30,
    ) -> None:  # fmt: skip
        self._data = data
        self._indices = indices
        self._device = device
        self._size = height, width = data.images.shape[1:3]
        self._padding = padding
        needed = len(indices) * (height + 2 * padding) * (width + 2 * padding) * data.images.shape[3]
        self._pixels = self._read(indices) if needed <= resident else None
        self._mirrors = data.mirrors
        self._scale = torch.tensor([1 / (255 * s) for s in normalisation.std], device=device)
        self._shift = torch.tensor(
            [m / s for m, s in zip(normalisation.mean, normalisation.std, strict=True)], device=device
        )

    def __len__(self) -> int:
        return len(self._indices)

    def plain(self, positions: Tensor) -> Tensor:
        """The images as they are, normalised: B x C x H x W float32 in channels_last."""
        p, (height, width) = self._padding, self._size
        pixels, rows = self._held(positions)
        return self._normalised(pixels[rows, p : p + height, p : p + width])

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
        device = self._device
        top, left, mirrored = (part.to(device)[:, None] for part in (views.rows, views.columns, views.mirrored))
        rows = top + self._padding + torch.arange(self._size[0], device=device)
        columns = left + self._padding + torch.arange(self._size[1], device=device)
        columns = torch.where(mirrored, columns.flip(1), columns)
        pixels, images = self._held(positions)
        return self._normalised(pixels[images.view(-1, 1, 1), rows[:, :, None], columns[:, None, :]])

    def _read(self, indices: IntArray) -> Tensor:
        p = self._padding
        pixels = np.pad(
            self._data.images[indices], ((0, 0), (p, p), (p, p), (0, 0)), constant_values=self._data.background
        )
        return torch.from_numpy(pixels).to(self._device)

    def _held(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Padded pixels that hold the images at ``positions``, and in which rows they do."""
        if self._pixels is not None:
            return self._pixels, positions
        pixels = self._read(self._indices[positions.cpu().numpy()])
        return pixels, torch.arange(len(pixels), device=self._device)

    def _normalised(self, pixels: Tensor) -> Tensor:
        return (pixels.float() * self._scale - self._shift).permute(0, 3, 1, 2)
