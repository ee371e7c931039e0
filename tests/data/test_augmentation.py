from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.data import ImageSet, augmentation
from benchmark.data.augmentation import Images, Normalisation, Views

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


def test_statistics_are_those_of_the_pixels(tiny: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "_COUNTED", 7)
    for chosen in (np.arange(3), tiny.where(tiny.splits["train"])):
        pixels = tiny.images[chosen].reshape(-1, 3) / 255
        found = Normalisation.of(tiny, chosen)
        assert np.allclose(found.mean, pixels.mean(0), rtol=1e-6)
        assert np.allclose(found.std, pixels.std(0), rtol=1e-6)
    flat = dataclasses.replace(tiny, images=np.full_like(tiny.images, 51))
    assert Normalisation.of(flat, np.arange(4)) == Normalisation((np.float32(0.2).item(),) * 3, (1e-3,) * 3)


def test_images_read_batch_by_batch_are_the_same(tiny: ImageSet, tmp_path: Path) -> None:
    """A set mapped from a file, too large to be held (more than nothing), gives the batches of one in memory."""
    np.save(tmp_path / "images.npy", tiny.images)
    mapped = dataclasses.replace(tiny, images=np.load(tmp_path / "images.npy", mmap_mode="r"), mirrors=True)
    chosen, index = np.arange(700, 100, -3), torch.tensor([5, 199, 5, 0, 64])
    held = Images(dataclasses.replace(tiny, mirrors=True), chosen, PLAIN, padding=4, device=CPU)
    read = Images(mapped, chosen, PLAIN, padding=4, device=CPU, resident=0)
    assert len(held) == len(read) == 200
    assert torch.equal(held.plain(index), read.plain(index))
    batches = [images.augmented(index, torch.Generator().manual_seed(3)) for images in (held, read)]
    assert torch.equal(*batches)


def test_more_than_fits_is_not_read_at_once(tiny: ImageSet) -> None:
    class Counting(np.ndarray):  # type: ignore[type-arg]
        most = 0

        def __getitem__(self, key: Any) -> Any:
            found = np.asarray(super().__getitem__(key))
            Counting.most = max(Counting.most, len(found))
            return found

    data = dataclasses.replace(tiny, images=tiny.images.view(Counting))
    size = 720 * 24 * 24 * 3
    for resident, most in ((size - 1, 9), (size, 720)):
        Counting.most = 0
        images = Images(data, np.arange(720), PLAIN, padding=4, device=CPU, resident=resident)
        images.augmented(torch.arange(9), torch.Generator())
        assert Counting.most == most


def test_a_view_is_the_crop_that_it_names(tiny: ImageSet) -> None:
    """Cut from the padded image by slices, and the same whatever padding there is beyond it."""
    data = dataclasses.replace(tiny, mirrors=True)
    views = Views(torch.tensor([-2, 0, 1]), torch.tensor([2, 0, -1]), torch.tensor([True, False, True]))
    padded = np.pad(data.images[[4, 5, 4]], ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=data.background)
    expected = np.stack([padded[0, 0:16, 4:20][:, ::-1], padded[1, 2:18, 2:18], padded[2, 3:19, 1:17][:, ::-1]])
    for padding in (2, 5):
        images = Images(data, np.array([4, 5]), PLAIN, padding=padding, device=CPU)
        cut = images.cut(torch.tensor([0, 1, 0]), views)
        assert np.array_equal((cut.permute(0, 2, 3, 1) * 255).round().numpy(), expected)


def test_views_are_drawn_as_augmented_images_are(tiny: ImageSet) -> None:
    for mirrors in (False, True):
        images = Images(dataclasses.replace(tiny, mirrors=mirrors), np.arange(9), PLAIN, padding=3, device=CPU)
        index = torch.arange(9)
        views = images.draw(9, torch.Generator().manual_seed(2))
        assert torch.equal(images.cut(index, views), images.augmented(index, torch.Generator().manual_seed(2)))
        assert bool(views.mirrored.any()) == mirrors
        assert torch.equal(images.cut(index, Views.plain(9)), images.plain(index))
