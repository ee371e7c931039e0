"""Images as network input: normalised tensors, random crops and mirror images of whole batches at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.data.image_set import ImageSet, IntArray
from benchmark.errors import InputError

Crop = Literal["padded", "resized"]

_COUNTED = 1024
"""Images whose values are counted at a time."""

_AREAS, _RATIOS, _TRIALS = (0.08, 1.0), (3 / 4, 4 / 3), 10
"""Of windows: shares of the image, width to height, and how often one that does not fit is drawn anew."""


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


PUBLISHED = {
    "cifar100": Normalisation((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "imagenet": Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Statistics that papers use: of CIFAR-100's training images, and of ImageNet's for photographs of other sets."""


class Crops(NamedTuple):
    """How a batch of B images is seen: how far down and right each one's crop begins, and whether it is mirrored.

    rows, columns: B pixels from where the crop of the image's centre begins, negative for up and left; mirrored: B. All
    on the CPU.
    """

    rows: Tensor
    columns: Tensor
    mirrored: Tensor

    @classmethod
    def plain(cls, count: int) -> Crops:
        """So many images as they are."""
        zeros = torch.zeros(count, dtype=torch.int64)
        return cls(zeros, zeros, zeros.bool())


class ResizedCrops(NamedTuple):
    """As ``Views``, of parts of any size that are brought to the input's: B pixels each, and flags, on the CPU."""

    tops: Tensor
    lefts: Tensor
    heights: Tensor
    widths: Tensor
    mirrored: Tensor


class ImageLoader:
    """Some images of a set on a device, padded with their background, ready to be cut into batches.

    size: pixels of a side of what is cut (0: the whole image, S x S else); crop: what ``draw`` draws, ``padded``:
    views, or ``resized``: windows, as ``Training.crop`` has it, after Szegedy et al. 2015 (arXiv 1409.4842). More than
    ``resident`` bytes stay where the set has them, and every batch is read from there; None: as the device has room.
    """

    def __init__(
        self, data: ImageSet, indices: IntArray, normalisation: Normalisation, *, padding: int, size: int = 0,
        crop: Crop = "padded", device: torch.device, resident: int | None = None,
    ) -> None:  # fmt: skip
        self._data = data
        self._indices = indices
        self._device = device
        height, width = data.images.shape[1:3]
        self._size = (size, size) if size else (height, width)
        self._crop = crop
        self._padding = padding = padding if crop == "padded" else 0
        self._spare = height + 2 * padding - self._size[0], width + 2 * padding - self._size[1]
        if min(self._spare) < 0:
            raise InputError(
                f"images of {data.name} are {height} x {width}: too small for training.input_size = {size}; import "
                f"them larger, or lower it"
            )
        self._first = padding + (height - self._size[0]) // 2, padding + (width - self._size[1]) // 2
        room = room_for_images(device) if resident is None else resident
        fits = padded_bytes(data, len(indices), padding) <= room
        self._pixels = self._read(indices).to(device) if fits else None
        self._mirrors = data.flip_invariant
        self._scale = torch.tensor([1 / (255 * s) for s in normalisation.std], device=device)
        self._shift = torch.tensor(
            [m / s for m, s in zip(normalisation.mean, normalisation.std, strict=True)], device=device
        )

    def __len__(self) -> int:
        return len(self._indices)

    def plain(self, positions: Tensor) -> Tensor:
        """The centres of the images, normalised: B x C x H x W float32 in channels_last."""
        (top, left), (height, width) = self._first, self._size
        pixels, rows = self._held(positions)
        return self._normalised(pixels[rows, top : top + height, left : left + width])

    def augmented(self, positions: Tensor, generator: torch.Generator) -> Tensor:
        """The images in random views: shape as ``plain``."""
        return self.cut(positions, self.draw(len(positions), generator))

    def draw(self, count: int, generator: torch.Generator) -> Crops | ResizedCrops:
        """Random crops, half of them mirrored where that keeps the class.

        ``generator`` lives on the CPU, so that every device sees the same crops.
        """
        if self._crop == "resized":
            return self._windows(count, generator)
        return self.sample_crops(count, generator)

    def sample_crops(self, count: int, generator: torch.Generator) -> Crops:
        """Random crops of the input's size within the padding, mirrored as in ``draw``."""
        down, right = self._spare
        if down == right:
            rows, columns = torch.randint(0, down + 1, (2, count, 1), generator=generator)[..., 0]
        else:
            rows, columns = (torch.randint(0, most + 1, (count,), generator=generator) for most in (down, right))
        flips = torch.randint(0, 2, (count, 1), generator=generator)[:, 0].bool()
        return Crops(rows - self._first[0], columns - self._first[1], flips & self._mirrors)

    def cut(self, positions: Tensor, views: Crops | ResizedCrops) -> Tensor:
        """A view of each image, its crop within the padding: shape as ``plain``."""
        if isinstance(views, ResizedCrops):
            return self._resampled(positions, views)
        device = self._device
        top, left, mirrored = (part.to(device)[:, None] for part in (views.rows, views.columns, views.mirrored))
        rows = top + self._first[0] + torch.arange(self._size[0], device=device)
        columns = left + self._first[1] + torch.arange(self._size[1], device=device)
        columns = torch.where(mirrored, columns.flip(1), columns)
        pixels, images = self._held(positions)
        return self._normalised(pixels[images.view(-1, 1, 1), rows[:, :, None], columns[:, None, :]])

    def _windows(self, count: int, generator: torch.Generator) -> ResizedCrops:
        """Windows of uniform area and log-uniform ratio; of ten drawn, the first that fits, else the largest square."""
        height, width = self._data.images.shape[1:3]
        area = torch.empty(count, _TRIALS).uniform_(*_AREAS, generator=generator) * (height * width)
        ratio = torch.empty(count, _TRIALS).uniform_(*map(math.log, _RATIOS), generator=generator).exp()
        widths, heights = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
        fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
        first = fits.int().argmax(1, keepdim=True)
        side = torch.full((count,), min(height, width))
        some = fits.any(1)
        widths, heights = (torch.where(some, x.gather(1, first)[:, 0], side) for x in (widths, heights))
        down, right = torch.rand(2, count, generator=generator)
        tops, lefts = (down * (height - heights + 1)).long(), (right * (width - widths + 1)).long()
        flips = torch.randint(0, 2, (count,), generator=generator).bool()
        return ResizedCrops(tops, lefts, heights, widths, flips & self._mirrors)

    def _resampled(self, positions: Tensor, windows: ResizedCrops) -> Tensor:
        """The windows brought to the input's size by bilinear interpolation between their own pixels."""
        device, (height, width) = self._device, self._size
        tops, lefts, heights, widths, mirrored = (part.to(device)[:, None] for part in windows)
        pixels, images = self._held(positions)
        values = pixels[images].permute(0, 3, 1, 2).float()
        rows = _centres(tops, heights, height)
        columns = _centres(lefts, widths, width)
        columns = torch.where(mirrored, columns.flip(1), columns)
        full = values.shape[2:]
        y, x = (2 * (part + 0.5) / total - 1 for part, total in zip((rows, columns), full, strict=True))
        grid = torch.stack([x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], 3)
        cut = F.grid_sample(values, grid, padding_mode="border", align_corners=False)
        return self._normalised(cut.permute(0, 2, 3, 1).contiguous())

    def _read(self, indices: IntArray) -> Tensor:
        p = self._padding
        pixels = np.pad(
            self._data.images[indices], ((0, 0), (p, p), (p, p), (0, 0)), constant_values=self._data.background
        )
        return torch.from_numpy(pixels)

    def _held(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Padded pixels that hold the images at ``positions``, and in which rows they do."""
        if self._pixels is not None:
            return self._pixels, positions
        pixels = self._read(self._indices[positions.cpu().numpy()])
        if self._device.type == "cuda":  # a copy from pinned memory does not make the host wait
            pixels = pixels.pin_memory()
        pixels = pixels.to(self._device, non_blocking=True)
        return pixels, torch.arange(len(pixels), device=self._device)

    def _normalised(self, pixels: Tensor) -> Tensor:
        return (pixels.float() * self._scale - self._shift).permute(0, 3, 1, 2)


def padded_bytes(data: ImageSet, count: int, padding: int) -> int:
    """What so many padded images take."""
    height, width, channels = data.images.shape[1:]
    return int(count * (height + 2 * padding) * (width + 2 * padding) * channels)


def room_for_images(device: torch.device) -> int:
    """Bytes of images that may stay on a device: half of a GPU's free memory, elsewhere 2 GiB."""
    return torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else 2 << 30


def _centres(starts: Tensor, lengths: Tensor, count: int) -> Tensor:
    """Where ``count`` pixels stand along windows of the image (B x 1 each), not beyond a window's own: B x count."""
    steps = (torch.arange(count, device=starts.device) + 0.5) / count
    inner = (steps * lengths - 0.5).clamp_min(0)
    return starts + torch.minimum(inner, lengths - 1)
