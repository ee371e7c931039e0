from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from benchmark.backbones.network import Backbone, Network, build_network
from benchmark.backbones.pretrained import PreprocessedBackbone, Pretrained
from benchmark.errors import InputError


class Recorder(Backbone):
    """Keeps its input."""

    dim = 3

    def forward(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        self.images = images
        return {"stage1": images}, images.mean((2, 3))


def preprocessed(images: Tensor, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    backbone = Recorder()
    PreprocessedBackbone(backbone, size, mean, std)(images)
    return backbone.images


@pytest.mark.parametrize("size", [24, 5])
def test_preprocessing_resizes_like_pillow(size: int) -> None:
    """Pillow's bicubic filter has antialiasing too; it rounds to whole values and clips."""
    pixels = np.random.default_rng(0).integers(64, 192, (12, 12, 3), np.uint8)
    resized = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC))
    pixels_out = preprocessed(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255, size, (0.0,) * 3, (1.0,) * 3)
    assert pixels_out.shape == (1, 3, size, size)
    assert np.abs(pixels_out[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255 - resized).max() < 1.1


def test_preprocessing_only_normalises_images_of_its_size() -> None:
    images = torch.rand(2, 3, 8, 8)
    normalised = preprocessed(images, 8, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    for channel, (mean, std) in enumerate([(0.1, 0.5), (0.2, 0.6), (0.3, 0.7)]):
        assert torch.allclose(normalised[:, channel], (images[:, channel] - mean) / std)


def test_preprocessing_converts_grey_and_colour() -> None:
    grey, colour = torch.rand(2, 1, 8, 8), torch.rand(2, 3, 8, 8)
    assert torch.equal(preprocessed(grey, 8, (0.0,) * 3, (1.0,) * 3), torch.cat([grey] * 3, 1))
    assert torch.allclose(preprocessed(colour, 8, (0.0,), (1.0,)), (colour[:, :1] + colour[:, 1:2] + colour[:, 2:]) / 3)
    with pytest.raises(InputError, match="images of 3 channels, these have 4"):
        preprocessed(torch.rand(2, 4, 8, 8), 8, (0.0,) * 3, (1.0,) * 3)


def test_pretrained_network_keeps_its_head_and_input() -> None:
    original = build_network("conv4-16", channels=3, size=16, classes=5, seed=1).eval()
    sizes = []

    def load(size: int) -> Network:
        sizes.append(size)
        return original

    teacher = Pretrained("t", "t.bin", "0", 16, (0.5,) * 3, (0.25,) * 3, load)
    network = teacher.network().eval()
    images = torch.rand(4, 3, 16, 16)
    assert sizes == [16]
    assert torch.allclose(network(images).logits, original((images - 0.5) / 0.25).logits, atol=1e-6)
    assert list(network(images).stages) == ["stage1", "stage2", "stage3", "stage4"]
    assert network.parameter_count == original.parameter_count


def test_pretrained_config_ignores_names() -> None:
    def load(_: int) -> Network:
        raise AssertionError("loaded")

    first = Pretrained("t", "here.bin", "0" * 64, 16, (0.5,), (0.25,), load)
    assert first.config() == {"weights": "0" * 64, "mean": [0.5], "std": [0.25]}
    assert Pretrained("t", "there.bin", "0" * 64, 16, (0.5,), (0.25,), load).config() == first.config()
