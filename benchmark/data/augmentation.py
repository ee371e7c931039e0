"""Images as network input: normalised tensors, random crops and mirror images, a whole batch at a time."""

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

CropKind = Literal["padded", "resized"]

_HISTOGRAM_IMAGES = 1024
"""Images whose pixel values are counted at once."""

_AREA_RANGE = (0.08, 1.0)
"""Area of a resized crop, as a share of the image."""

_RATIO_RANGE = (3 / 4, 4 / 3)
"""Width of a resized crop, divided by its height."""

_TRIALS = 10
"""Candidates drawn for each resized crop. The first candidate that fits the image is used."""


@dataclass(frozen=True)
class Normalisation:
    """Statistics of the images that a network was trained on.

    Attributes:
        mean: mean of each channel, on the scale 0..1.
        std: standard deviation of each channel, on the scale 0..1.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, data: ImageSet, indices: IntArray) -> Normalisation:
        """Compute the statistics of some images from the histogram of each channel.

        Args:
            data: the image set.
            indices: the images to count.
        """
        values = (np.arange(256, dtype=np.float32) / 255).astype(np.float64)
        counts = np.zeros((data.images.shape[3], 256))
        for part in np.array_split(indices, max(1, -(-len(indices) // _HISTOGRAM_IMAGES))):
            for channel, row in zip(np.moveaxis(data.images[part], 3, 0), counts, strict=True):
                row += np.bincount(channel.ravel(), minlength=256)
        shares = counts / counts.sum(axis=1, keepdims=True)
        mean = shares @ values
        std = np.sqrt((shares * (values - mean[:, None]) ** 2).sum(axis=1))
        return cls(tuple(mean.tolist()), tuple(np.maximum(std, 1e-3).tolist()))


PUBLISHED = {
    "cifar100": Normalisation((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "imagenet": Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Statistics that papers use: those of CIFAR-100's training images, and ImageNet's for photographs of other sets."""


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the CPU to a device. A GPU copies from pinned memory, for which the host does not wait."""
    is_cuda = device.type == "cuda"
    return (tensor.pin_memory() if is_cuda else tensor).to(device, non_blocking=is_cuda)


class Crops(NamedTuple):
    """One crop of the input's size for each of B images. All tensors are on the CPU.

    Attributes:
        rows: B, pixels from the centre crop down to this crop; negative is up.
        columns: B, pixels from the centre crop to the right; negative is left.
        mirrored: B flags, True if the crop is mirrored.
    """

    rows: Tensor
    columns: Tensor
    mirrored: Tensor

    @classmethod
    def plain(cls, count: int) -> Crops:
        """The centre crops of ``count`` images, not mirrored."""
        zeros = torch.zeros(count, dtype=torch.int64)
        return cls(zeros, zeros, zeros.bool())


class ResizedCrops(NamedTuple):
    """One rectangle of each of B images, resized to the input's size. All tensors are on the CPU.

    Attributes:
        tops: B, first row of the rectangle in pixels.
        lefts: B, first column in pixels.
        heights: B, rows of the rectangle.
        widths: B, columns of the rectangle.
        mirrored: B flags, True if the crop is mirrored.
    """

    tops: Tensor
    lefts: Tensor
    heights: Tensor
    widths: Tensor
    mirrored: Tensor


class ImageLoader:
    """Makes batches of network input from some images of a set.

    The images are padded with the set's background. They stay on the device if they fit; otherwise every batch is read
    from the set.

    Args:
        data: the image set.
        indices: the images to load (N). Methods take positions into this array.
        normalisation: statistics that normalise the pixels.
        padding: pixels of background on each side. Unused if ``crop`` is ``resized``.
        size: side of the network input in pixels; 0 is the whole image.
        crop: kind of random crop. ``padded`` shifts the crop within the padding; ``resized`` resizes a random
            rectangle, as Szegedy et al. 2015 (arXiv 1409.4842).
        device: where batches are needed.
        resident: largest number of bytes that may stay on the device; None is ``room_for_images(device)``.

    Raises:
        InputError: the padded images are smaller than ``size``.
    """

    def __init__(
        self, data: ImageSet, indices: IntArray, normalisation: Normalisation, *, padding: int, size: int = 0,
        crop: CropKind = "padded", device: torch.device, resident: int | None = None,
    ) -> None:  # fmt: skip
        self._data = data
        self._indices = indices
        self._device = device
        height, width = data.images.shape[1:3]
        self._size = (size, size) if size else (height, width)
        self._crop_kind = crop
        self._padding = padding = padding if crop == "padded" else 0
        self._slack = height + 2 * padding - self._size[0], width + 2 * padding - self._size[1]
        if min(self._slack) < 0:
            raise InputError(
                f"images of {data.name} are {height} x {width}: too small for training.input_size = {size}; import "
                f"them larger, or lower it"
            )
        self._centre = padding + (height - self._size[0]) // 2, padding + (width - self._size[1]) // 2
        capacity = room_for_images(device) if resident is None else resident
        fits = padded_bytes(data, len(indices), padding) <= capacity
        self._pixels = self._read(indices).to(device) if fits else None
        self._flip_invariant = data.flip_invariant
        self._scale = torch.tensor([1 / (255 * s) for s in normalisation.std], device=device)
        self._shift = torch.tensor(
            [m / s for m, s in zip(normalisation.mean, normalisation.std, strict=True)], device=device
        )

    def __len__(self) -> int:
        return len(self._indices)

    def plain(self, positions: Tensor) -> Tensor:
        """Load the centre crops, not mirrored.

        Args:
            positions: B positions of images.

        Returns:
            Normalised pixels, B x C x H x W float32 in channels_last.
        """
        (top, left), (height, width) = self._centre, self._size
        pixels, rows = self._padded(positions)
        return self._normalised(pixels[rows, top : top + height, left : left + width])

    def mirrored(self, positions: Tensor) -> Tensor:
        """Load the mirror images of the centre crops: argument and result as ``plain``."""
        return self.plain(positions).flip(3)

    def augmented(self, positions: Tensor, generator: torch.Generator) -> Tensor:
        """Load a random crop of each image: arguments as ``sample_crops``, result as ``plain``."""
        return self.crop(positions, self.sample_crops(len(positions), generator))

    def sample_crops(self, count: int, generator: torch.Generator) -> Crops | ResizedCrops:
        """Draw random crops of the loader's kind. Half of them are mirrored if the set is flip-invariant.

        Args:
            count: number of crops.
            generator: a generator on the CPU, so that every device gets the same crops.
        """
        if self._crop_kind == "resized":
            return self._sample_resized_crops(count, generator)
        return self.sample_padded_crops(count, generator)

    def sample_padded_crops(self, count: int, generator: torch.Generator) -> Crops:
        """Draw random crops of the input's size within the padding: arguments as ``sample_crops``."""
        down, right = self._slack
        if down == right:
            rows, columns = torch.randint(0, down + 1, (2, count, 1), generator=generator)[..., 0]
        else:
            rows, columns = (torch.randint(0, most + 1, (count,), generator=generator) for most in (down, right))
        flips = torch.randint(0, 2, (count, 1), generator=generator)[:, 0].bool()
        return Crops(rows - self._centre[0], columns - self._centre[1], flips & self._flip_invariant)

    def crop(self, positions: Tensor, crops: Crops | ResizedCrops) -> Tensor:
        """Load the given crop of each image.

        Args:
            positions: B positions of images.
            crops: B crops that lie within the padding.

        Returns:
            Normalised pixels, B x C x H x W float32 in channels_last.
        """
        if isinstance(crops, ResizedCrops):
            return self._resized(positions, crops)
        device = self._device
        top, left, mirrored = (to_device(part, device)[:, None] for part in crops)
        rows = top + self._centre[0] + torch.arange(self._size[0], device=device)
        columns = left + self._centre[1] + torch.arange(self._size[1], device=device)
        columns = torch.where(mirrored, columns.flip(1), columns)
        pixels, images = self._padded(positions)
        return self._normalised(pixels[images.view(-1, 1, 1), rows[:, :, None], columns[:, None, :]])

    def _sample_resized_crops(self, count: int, generator: torch.Generator) -> ResizedCrops:
        """Draw rectangles of uniform area and log-uniform aspect ratio.

        The first of ten candidates that fits the image is used, else the largest square.
        """
        height, width = self._data.images.shape[1:3]
        area = torch.empty(count, _TRIALS).uniform_(*_AREA_RANGE, generator=generator) * (height * width)
        ratio = torch.empty(count, _TRIALS).uniform_(*map(math.log, _RATIO_RANGE), generator=generator).exp()
        widths, heights = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
        fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
        first = fits.int().argmax(1, keepdim=True)
        side = torch.full((count,), min(height, width))
        any_fits = fits.any(1)
        widths, heights = (torch.where(any_fits, x.gather(1, first)[:, 0], side) for x in (widths, heights))
        down, right = torch.rand(2, count, generator=generator)
        tops, lefts = (down * (height - heights + 1)).long(), (right * (width - widths + 1)).long()
        flips = torch.randint(0, 2, (count,), generator=generator).bool()
        return ResizedCrops(tops, lefts, heights, widths, flips & self._flip_invariant)

    def _resized(self, positions: Tensor, crops: ResizedCrops) -> Tensor:
        """Resize the rectangles to the input's size: bilinear interpolation of the pixels inside each rectangle."""
        device, (height, width) = self._device, self._size
        tops, lefts, heights, widths, mirrored = (to_device(part, device)[:, None] for part in crops)
        pixels, images = self._padded(positions)
        values = pixels[images].permute(0, 3, 1, 2).float()
        rows = _pixel_centres(tops, heights, height)
        columns = _pixel_centres(lefts, widths, width)
        columns = torch.where(mirrored, columns.flip(1), columns)
        full = values.shape[2:]
        y, x = (2 * (part + 0.5) / total - 1 for part, total in zip((rows, columns), full, strict=True))
        grid = torch.stack([x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], 3)
        resized = F.grid_sample(values, grid, padding_mode="border", align_corners=False)
        return self._normalised(resized.permute(0, 2, 3, 1).contiguous())

    def _read(self, indices: IntArray) -> Tensor:
        p = self._padding
        pixels = np.pad(
            self._data.images[indices], ((0, 0), (p, p), (p, p), (0, 0)), constant_values=self._data.background
        )
        return torch.from_numpy(pixels)

    def _padded(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Padded pixels on the device, and the row of each requested image in them."""
        if self._pixels is not None:
            return self._pixels, positions
        pixels = self._read(self._indices[positions.cpu().numpy()])
        pixels = to_device(pixels, self._device)
        return pixels, torch.arange(len(pixels), device=self._device)

    def _normalised(self, pixels: Tensor) -> Tensor:
        return (pixels.float() * self._scale - self._shift).permute(0, 3, 1, 2)


def padded_bytes(data: ImageSet, count: int, padding: int) -> int:
    """Memory of ``count`` images with ``padding`` pixels of background on each side, in bytes."""
    height, width, channels = data.images.shape[1:]
    return int(count * (height + 2 * padding) * (width + 2 * padding) * channels)


def room_for_images(device: torch.device) -> int:
    """Bytes of images that may stay on a device: half of a GPU's free memory, 2 GiB otherwise."""
    return torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else 2 << 30


def _pixel_centres(starts: Tensor, lengths: Tensor, count: int) -> Tensor:
    """Coordinates of ``count`` pixel centres spread over each span of the image, never outside the span.

    Args:
        starts: B x 1, first pixel of each span.
        lengths: B x 1, pixels of each span.
        count: number of centres.

    Returns:
        B x ``count`` coordinates in pixels.
    """
    steps = (torch.arange(count, device=starts.device) + 0.5) / count
    inner = (steps * lengths - 0.5).clamp_min(0)
    return starts + torch.minimum(inner, lengths - 1)
