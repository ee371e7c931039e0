from __future__ import annotations

import dataclasses

import numpy as np
import torch

from benchmark.data import ImageSet
from benchmark.data.augmentation import Images, Normalisation

CPU = torch.device("cpu")
PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def test_statistics_give_zero_mean_and_unit_deviation(tiny: ImageSet) -> None:
    chosen = tiny.where(tiny.splits["train"])
    images = Images(tiny, chosen, Normalisation.of(tiny, chosen), padding=3, device=CPU)
    pixels = images.plain(torch.arange(len(chosen)))
    assert torch.allclose(pixels.mean((0, 2, 3)), torch.zeros(3), atol=1e-4)
    assert torch.allclose(pixels.std((0, 2, 3)), torch.ones(3), atol=1e-4)


def test_plain_images_are_the_pixels(tiny: ImageSet) -> None:
    images = Images(tiny, np.array([5, 9]), PLAIN, padding=4, device=CPU)
    expected = torch.from_numpy(tiny.images[[9, 5]]).permute(0, 3, 1, 2) / 255
    assert torch.allclose(images.plain(torch.tensor([1, 0])), expected)
    assert images.plain(torch.arange(2)).is_contiguous(memory_format=torch.channels_last)


def crops(data: ImageSet, index: int, padding: int) -> dict[bytes, tuple[int, int, bool]]:
    padded = np.pad(
        data.images[index], ((padding, padding), (padding, padding), (0, 0)), constant_values=data.background
    )
    size = data.images.shape[1]
    found = {}
    for y in range(2 * padding + 1):
        for x in range(2 * padding + 1):
            crop = padded[y : y + size, x : x + size]
            found[crop.tobytes()] = (y, x, False)
            if data.mirrors:
                found[np.ascontiguousarray(crop[:, ::-1]).tobytes()] = (y, x, True)
    return found


def as_bytes(image: torch.Tensor) -> bytes:
    return (image.permute(1, 2, 0) * 255).round().to(torch.uint8).contiguous().numpy().tobytes()


def test_augmented_images_are_crops_of_the_padded_image(tiny: ImageSet) -> None:
    for mirrors in (False, True):
        data = dataclasses.replace(tiny, mirrors=mirrors)
        images = Images(data, np.array([7]), PLAIN, padding=2, device=CPU)
        known = crops(data, 7, 2)
        batch = images.augmented(torch.zeros(400, dtype=torch.int64), torch.Generator().manual_seed(0))
        seen = {known[as_bytes(image)] for image in batch}
        assert len(seen) == 25 * (1 + mirrors)


def test_crops_follow_the_generator(tiny: ImageSet) -> None:
    images = Images(tiny, np.arange(20), PLAIN, padding=4, device=CPU)
    index = torch.arange(20)
    first, again, other = (images.augmented(index, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
