from __future__ import annotations

import io

import numpy as np
from PIL import Image

from benchmark.data.copies import group_copies

from .layouts import noise, picture


def test_equal_and_resaved_images_share_a_group() -> None:
    pictures = [picture(i, 64, 64) for i in range(12)]
    buffer = io.BytesIO()
    pictures[4].save(buffer, "JPEG", quality=70)
    smaller = pictures[5].resize((48, 48)).resize((64, 64))
    images = np.stack([np.asarray(image) for image in [*pictures, pictures[2], Image.open(buffer), smaller]])
    assert group_copies(images).tolist() == [*range(12), 2, 4, 5]


def test_chains_of_copies_are_one_group() -> None:
    steps = [np.asarray(picture(3, 32, 32)).astype(int) + step for step in (0, 3, 6, 9)]
    assert group_copies(np.stack(steps).clip(0, 255).astype(np.uint8)).tolist() == [0] * 4


def test_other_images_are_groups_of_their_own() -> None:
    assert group_copies(noise(0, 50, 16, 16, 3)).tolist() == [*range(50)]
    smooth = np.stack([np.asarray(picture(i, 24, 24)) for i in range(60)])
    assert group_copies(smooth).tolist() == [*range(60)]
    flat = np.stack([np.full((8, 8, 1), level, np.uint8) for level in (10, 11, 10)])
    assert group_copies(flat).tolist() == [0, 1, 0]
    faint = 100 + np.random.default_rng(0).integers(0, 3, (40, 16, 16, 3), np.uint8)  # little contrast, no copies
    assert group_copies(faint).tolist() == [*range(40)]


def test_images_of_one_colour_with_noise_of_their_own_are_no_copies() -> None:
    noise = np.random.default_rng(0).integers(-8, 8, (6, 16, 16, 3))
    images = (np.array([255, 0, 128]) + noise).clip(0, 255).astype(np.uint8)
    assert group_copies(images).tolist() == list(range(6))
