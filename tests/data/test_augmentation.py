from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.data import ImageSet, augmentation
from benchmark.data.augmentation import PUBLISHED, Crops, ImageLoader, Normalisation, ResizedCrops
from benchmark.errors import InputError

CPU = torch.device("cpu")
PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def test_normalised_images_have_zero_mean_and_unit_deviation(tiny: ImageSet) -> None:
    chosen = tiny.indices_of(tiny.splits["train"])
    images = ImageLoader(tiny, chosen, Normalisation.of(tiny, chosen), padding=3, device=CPU)
    pixels = images.plain(torch.arange(len(chosen)))
    assert torch.allclose(pixels.mean((0, 2, 3)), torch.zeros(3), atol=1e-4)
    assert torch.allclose(pixels.std((0, 2, 3)), torch.ones(3), atol=1e-4)


def test_plain_returns_the_pixels(tiny: ImageSet) -> None:
    images = ImageLoader(tiny, np.array([5, 9]), PLAIN, padding=4, device=CPU)
    expected = torch.from_numpy(tiny.images[[9, 5]]).permute(0, 3, 1, 2) / 255
    assert torch.allclose(images.plain(torch.tensor([1, 0])), expected)
    assert images.plain(torch.arange(2)).is_contiguous(memory_format=torch.channels_last)


def all_crops(data: ImageSet, index: int, padding: int) -> dict[bytes, tuple[int, int, bool]]:
    padded = np.pad(
        data.images[index], ((padding, padding), (padding, padding), (0, 0)), constant_values=data.background
    )
    size = data.images.shape[1]
    known = {}
    for y in range(2 * padding + 1):
        for x in range(2 * padding + 1):
            crop = padded[y : y + size, x : x + size]
            known[crop.tobytes()] = (y, x, False)
            if data.flip_invariant:
                known[np.ascontiguousarray(crop[:, ::-1]).tobytes()] = (y, x, True)
    return known


def as_bytes(image: torch.Tensor) -> bytes:
    return (image.permute(1, 2, 0) * 255).round().to(torch.uint8).contiguous().numpy().tobytes()


def test_augmented_returns_crops_of_the_padded_image(tiny: ImageSet) -> None:
    for flip_invariant in (False, True):
        data = dataclasses.replace(tiny, flip_invariant=flip_invariant)
        images = ImageLoader(data, np.array([7]), PLAIN, padding=2, device=CPU)
        known = all_crops(data, 7, 2)
        batch = images.augmented(torch.zeros(400, dtype=torch.int64), torch.Generator().manual_seed(0))
        seen = {known[as_bytes(image)] for image in batch}
        assert len(seen) == 25 * (1 + flip_invariant)


def test_augmented_depends_on_the_generator_alone(tiny: ImageSet) -> None:
    images = ImageLoader(tiny, np.arange(20), PLAIN, padding=4, device=CPU)
    index = torch.arange(20)
    first, again, other = (images.augmented(index, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_normalisation_has_the_statistics_of_the_pixels(tiny: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "_HISTOGRAM_IMAGES", 7)
    for chosen in (np.arange(3), tiny.indices_of(tiny.splits["train"])):
        pixels = tiny.images[chosen].reshape(-1, 3) / 255
        statistics = Normalisation.of(tiny, chosen)
        assert np.allclose(statistics.mean, pixels.mean(0), rtol=1e-6)
        assert np.allclose(statistics.std, pixels.std(0), rtol=1e-6)
    flat = dataclasses.replace(tiny, images=np.full_like(tiny.images, 51))
    assert Normalisation.of(flat, np.arange(4)) == Normalisation((np.float32(0.2).item(),) * 3, (1e-3,) * 3)


def test_images_that_do_not_fit_give_the_same_batches(tiny: ImageSet, tmp_path: Path) -> None:
    """A mapped set with no room on the device gives the same batches as a set in memory."""
    np.save(tmp_path / "images.npy", tiny.images)
    mapped = dataclasses.replace(tiny, images=np.load(tmp_path / "images.npy", mmap_mode="r"), flip_invariant=True)
    chosen, index = np.arange(700, 100, -3), torch.tensor([5, 199, 5, 0, 64])
    held = ImageLoader(dataclasses.replace(tiny, flip_invariant=True), chosen, PLAIN, padding=4, device=CPU)
    read = ImageLoader(mapped, chosen, PLAIN, padding=4, device=CPU, resident=0)
    assert len(held) == len(read) == 200
    assert torch.equal(held.plain(index), read.plain(index))
    batches = [images.augmented(index, torch.Generator().manual_seed(3)) for images in (held, read)]
    assert torch.equal(*batches)


def test_images_that_do_not_fit_are_read_batch_by_batch(tiny: ImageSet) -> None:
    class Counting(np.ndarray):  # type: ignore[type-arg]
        most = 0

        def __getitem__(self, key: Any) -> Any:
            rows = np.asarray(super().__getitem__(key))
            Counting.most = max(Counting.most, len(rows))
            return rows

    data = dataclasses.replace(tiny, images=tiny.images.view(Counting))
    size = 720 * 24 * 24 * 3
    for resident, most in ((size - 1, 9), (size, 720)):
        Counting.most = 0
        images = ImageLoader(data, np.arange(720), PLAIN, padding=4, device=CPU, resident=resident)
        images.augmented(torch.arange(9), torch.Generator())
        assert Counting.most == most


def test_crop_returns_the_given_crop(tiny: ImageSet) -> None:
    """The crop equals a slice of the padded image and does not depend on further padding."""
    data = dataclasses.replace(tiny, flip_invariant=True)
    views = Crops(torch.tensor([-2, 0, 1]), torch.tensor([2, 0, -1]), torch.tensor([True, False, True]))
    padded = np.pad(data.images[[4, 5, 4]], ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=data.background)
    expected = np.stack([padded[0, 0:16, 4:20][:, ::-1], padded[1, 2:18, 2:18], padded[2, 3:19, 1:17][:, ::-1]])
    for padding in (2, 5):
        images = ImageLoader(data, np.array([4, 5]), PLAIN, padding=padding, device=CPU)
        cut = images.crop(torch.tensor([0, 1, 0]), views)
        assert np.array_equal((cut.permute(0, 2, 3, 1) * 255).round().numpy(), expected)


def test_augmented_is_crop_of_sampled_crops(tiny: ImageSet) -> None:
    for flip_invariant in (False, True):
        images = ImageLoader(
            dataclasses.replace(tiny, flip_invariant=flip_invariant), np.arange(9), PLAIN, padding=3, device=CPU
        )
        index = torch.arange(9)
        views = images.sample_crops(9, torch.Generator().manual_seed(2))
        assert torch.equal(images.crop(index, views), images.augmented(index, torch.Generator().manual_seed(2)))
        assert bool(views.mirrored.any()) == flip_invariant
        assert torch.equal(images.crop(index, Crops.plain(9)), images.plain(index))


def test_resized_crops_equal_torchvision(tiny: ImageSet) -> None:
    """Compared with ``resized_crop``, image by image, with mirrored crops, resident or read batch by batch."""
    from torchvision.transforms import functional

    data = dataclasses.replace(tiny, flip_invariant=True)
    chosen, index = np.arange(40, 240), torch.randint(0, 200, (64,), generator=torch.Generator().manual_seed(1))
    for size, resident in ((11, None), (16, 0), (13, 0)):
        images = ImageLoader(
            data, chosen, PLAIN, padding=4, size=size, crop="resized", device=CPU, resident=resident
        )  # fmt: skip
        sampled = images.sample_crops(64, torch.Generator().manual_seed(2))
        assert isinstance(sampled, ResizedCrops)
        assert sampled.mirrored.any()
        cut = images.crop(index, sampled)
        assert cut.shape == (64, 3, size, size)
        assert cut.is_contiguous(memory_format=torch.channels_last)
        for image, row, (top, left, height, width, mirrored) in zip(
            cut, index.tolist(), zip(*(part.tolist() for part in sampled), strict=True), strict=True
        ):
            pixels = torch.from_numpy(data.images[chosen[row]]).permute(2, 0, 1) / 255
            expected = functional.resized_crop(pixels, top, left, height, width, [size, size], antialias=False)
            expected = expected.flip(2) if mirrored else expected
            assert torch.allclose(image, expected, atol=1e-5)


def test_resized_crops_have_torchvisions_distribution(tiny: ImageSet) -> None:
    """Shares of the image and ratios have the same quantiles, and every window lies within the image."""
    from torchvision.transforms import RandomResizedCrop

    large = dataclasses.replace(tiny, images=np.broadcast_to(np.zeros((1, 1, 1, 3), np.uint8), (720, 256, 256, 3)))
    images = ImageLoader(large, np.arange(9), PLAIN, padding=0, size=224, crop="resized", device=CPU)
    sampled = images.sample_crops(4000, torch.Generator().manual_seed(0))
    assert isinstance(sampled, ResizedCrops)
    assert sampled.tops.min() == sampled.lefts.min() == 0
    assert (sampled.tops + sampled.heights).max() == (sampled.lefts + sampled.widths).max() == 256
    blank = torch.zeros(3, 256, 256)
    reference = torch.tensor([RandomResizedCrop.get_params(blank, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)])
    levels = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
    for values, expected in (
        (sampled.heights * sampled.widths / 65536, reference[:, 2] * reference[:, 3] / 65536),
        (sampled.widths / sampled.heights, reference[:, 3] / reference[:, 2]),
        (sampled.tops / 256, reference[:, 0] / 256),
        (sampled.lefts / 256, reference[:, 1] / 256),
    ):
        assert torch.allclose(values.quantile(levels), expected.quantile(levels), atol=0.03)


def test_resized_crops_depend_on_the_generator_alone(tiny: ImageSet) -> None:
    images = ImageLoader(tiny, np.arange(20), PLAIN, padding=4, crop="resized", device=CPU)
    first, again, other = (images.sample_crops(20, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert not first.mirrored.any()


def test_smaller_input_is_the_centre_of_the_image(tiny: ImageSet) -> None:
    images = ImageLoader(tiny, np.array([5, 9]), PLAIN, padding=0, size=10, device=CPU)
    expected = torch.from_numpy(tiny.images[[9, 5], 3:13, 3:13]).permute(0, 3, 1, 2) / 255
    assert torch.allclose(images.plain(torch.tensor([1, 0])), expected)
    assert torch.allclose(images.crop(torch.tensor([1, 0]), Crops.plain(2)), expected)
    padded = ImageLoader(tiny, np.array([7]), PLAIN, padding=1, size=15, device=CPU)
    canvas = np.pad(tiny.images[7], ((1, 1), (1, 1), (0, 0)), constant_values=tiny.background)
    known = {canvas[y : y + 15, x : x + 15].tobytes() for y in range(4) for x in range(4)}
    batch = padded.augmented(torch.zeros(300, dtype=torch.int64), torch.Generator().manual_seed(0))
    assert {as_bytes(image) for image in batch} == known
    with pytest.raises(InputError, match=r"are 16 x 16: too small for training\.input_size = 19"):
        ImageLoader(tiny, np.arange(3), PLAIN, padding=1, size=19, device=CPU)


def test_published_statistics_are_those_of_the_papers() -> None:
    assert PUBLISHED["cifar100"].mean == (0.5071, 0.4867, 0.4408)
    assert PUBLISHED["imagenet"].std == (0.229, 0.224, 0.225)
