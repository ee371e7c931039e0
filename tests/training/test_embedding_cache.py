from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark.backbones.network import Backbone, Network, build_network
from benchmark.data import ImageSet
from benchmark.data.augmentation import Crops, ImageLoader, Normalisation
from benchmark.errors import InputError
from benchmark.system.progress import Silent
from benchmark.training import select_device
from benchmark.training.cost_clock import CostClock
from benchmark.training.embedding_cache import EmbeddingCache

DEVICE = select_device("cpu", "float32")
PLAIN = Normalisation((0.0,) * 3, (1.0,) * 3)
PADDING = 2


class Counting(Backbone):
    """Counts its images; ``mixing`` lets each depend on its batch."""

    dim = 12

    def __init__(self, mixing: float = 0.0) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 12, 3, 2)
        self.mixing = mixing
        self.shown = 0

    def forward(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        self.shown += len(images)
        features = self.convolution(images).relu()
        return {"stage1": features}, (features + self.mixing * features.mean(0)).mean((2, 3))


def network(mixing: float = 0.0) -> Network:
    torch.manual_seed(1)
    return Network(Counting(mixing), 4).eval().requires_grad_(False)


def open_cache(root: Path, data: ImageSet, net: Network, key: Any = "net") -> EmbeddingCache:
    return EmbeddingCache(net, key, PLAIN, data, DEVICE, root, Silent())


def drawn(data: ImageSet, count: int, seed: int) -> tuple[np.ndarray, Crops]:
    """Return crops of few images, so that some repeat."""
    images = np.random.default_rng(seed).integers(3, 6, count)
    generator = torch.Generator().manual_seed(seed)
    return images, ImageLoader(data, images[:1], PLAIN, padding=PADDING, device=DEVICE.torch).sample_crops(
        count, generator
    )


def directly(data: ImageSet, net: Network, images: np.ndarray, views: Crops) -> Tensor:
    """Cut every crop by slices from its padded image, and embed it alone."""
    rows = []
    for image, row, column, mirrored in zip(images, *(part.tolist() for part in views), strict=True):
        padded = np.pad(data.images[image], ((2, 2), (2, 2), (0, 0)), constant_values=data.background)
        crop = padded[row + 2 : row + 18, column + 2 : column + 18]
        pixels = np.ascontiguousarray(crop[:, ::-1] if mirrored else crop)
        rows.append(net.embed(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255))
    return torch.cat(rows)


@pytest.fixture
def data(tiny: ImageSet) -> ImageSet:
    return dataclasses.replace(tiny, flip_invariant=True)


def test_cache_embeds_the_crops_themselves(tmp_path: Path, data: ImageSet) -> None:
    net = network()
    images, views = drawn(data, 70, 0)
    cache = open_cache(tmp_path, data, net)
    assert torch.allclose(cache.embed(images, views), directly(data, net, images, views), atol=1e-5)
    outputs = cache.outputs(images, views)
    assert torch.allclose(outputs.logits, net.head(directly(data, net, images, views)), atol=1e-5)
    assert outputs.stages == {}
    plain = cache.embed(images)
    assert torch.allclose(plain, directly(data, net, images, Crops.plain(70)), atol=1e-5)


@pytest.mark.parametrize("mixing", [0.0, 0.5])
def test_cache_does_not_depend_on_earlier_calls(tmp_path: Path, data: ImageSet, mixing: float) -> None:
    """Bit for bit; also for a network whose images depend on their batch, as some kernels round so."""
    net = network(mixing)
    images, views = drawn(data, 40, 1)
    expected = open_cache(tmp_path / "fresh", data, net).embed(images, views)
    cache = open_cache(tmp_path / "used", data, net)
    cache.embed(*drawn(data, 23, 2))
    assert torch.equal(cache.embed(images, views), expected)
    order = torch.randperm(40).numpy()
    turned = open_cache(tmp_path / "turned", data, net).embed(images[order], Crops(*(part[order] for part in views)))
    assert torch.equal(turned, expected[order])
    alone = open_cache(tmp_path / "alone", data, net)
    single = torch.cat([alone.embed(images[i : i + 1], Crops(*(p[i : i + 1] for p in views))) for i in range(5)])
    assert torch.equal(single, expected[:5])


def test_cache_computes_a_crop_once(tmp_path: Path, data: ImageSet) -> None:
    net = network()
    images, views = drawn(data, 64, 3)
    cache = open_cache(tmp_path, data, net)
    different = len(set(zip(images.tolist(), *(part.tolist() for part in views), strict=True)))
    assert different < 64
    cache.embed(images, views)
    assert cache.facts() == {"views_computed": different, "views_remembered": 64 - different}
    shown = net.backbone.shown
    cache.embed(images, views)
    assert net.backbone.shown == shown
    assert cache.facts() == {"views_computed": different, "views_remembered": 128 - different}


def test_cache_files_serve_later_runs(tmp_path: Path, data: ImageSet) -> None:
    images, views = drawn(data, 64, 4)
    first = open_cache(tmp_path, data, network())
    assert not list(tmp_path.iterdir())
    expected = first.embed(images, views)
    first.save()
    first.save()
    (file,) = tmp_path.glob("*/*.safetensors")
    later = network()
    again = open_cache(tmp_path, data, later)
    assert torch.equal(again.embed(images, views), expected)
    assert later.backbone.shown == 0
    more = drawn(data, 64, 5)
    again.embed(*more)
    again.save()
    assert len(list(tmp_path.glob("*/*.safetensors"))) == 2
    assert file.exists()
    last = open_cache(tmp_path, data, later)
    last.embed(images, views)
    last.embed(*more)
    assert last.facts()["views_computed"] == 0


def test_cache_files_are_separate_for_networks_and_data(tmp_path: Path, data: ImageSet) -> None:
    images, views = drawn(data, 8, 6)
    darker = dataclasses.replace(data, images=data.images // 2)
    framed = dataclasses.replace(data, background=0)
    for key, own in (("net", data), ("other", data), ("net", darker), ("net", framed)):
        cache = open_cache(tmp_path, own, network(), key)
        cache.embed(images, views)
        cache.save()
        assert cache.facts()["views_computed"] > 0
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("damage", ["flip", "short", "name"])
def test_damaged_cache_file_is_named(tmp_path: Path, data: ImageSet, damage: str) -> None:
    images, views = drawn(data, 8, 7)
    cache = open_cache(tmp_path, data, network())
    cache.embed(images, views)
    cache.save()
    (file,) = tmp_path.glob("*/*.safetensors")
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[-5] ^= 1
    file.write_bytes(content[:50] if damage == "short" else content)
    if damage == "name":
        file.rename(file.with_stem("0" * 64))
    with pytest.raises(InputError, match=r"views .* are damaged .*remove that file"):
        open_cache(tmp_path, data, network()).embed(images, views)


def test_cache_folder_that_cannot_be_written_is_an_input_error(tmp_path: Path, data: ImageSet) -> None:
    (tmp_path / "file").write_text("")
    cache = open_cache(tmp_path / "file", data, network())
    cache.embed(*drawn(data, 4, 8))
    with pytest.raises(InputError, match="--data"):
        cache.save()


def test_cache_computes_crops_in_batches_of_one_size(tmp_path: Path, data: ImageSet) -> None:
    """Sixteen at a time, or one by one if batching changes results on this machine."""
    net = build_network("conv4-16", channels=3, size=16, classes=3, seed=0).eval()
    images, views = drawn(data, 40, 9)
    batches: list[int] = []
    net.backbone.register_forward_hook(lambda _, inputs, __: batches.append(len(inputs[0])))
    open_cache(tmp_path, data, net).embed(images, views)
    assert set(batches[3:]) in ({16}, {1})


def test_cache_keeps_centre_crops_apart(tmp_path: Path, data: ImageSet) -> None:
    net = network()
    images = np.array([3, 5])
    cache = EmbeddingCache(net, "net", PLAIN, data, DEVICE, tmp_path, Silent(), 12)
    pixels = torch.from_numpy(np.ascontiguousarray(data.images[images, 2:14, 2:14])).permute(0, 3, 1, 2) / 255
    assert torch.allclose(cache.embed(images), net.embed(pixels), atol=1e-6)
    cache.save()
    whole = open_cache(tmp_path, data, net)
    whole.embed(images)
    assert whole.facts() == {"views_computed": 2, "views_remembered": 0}


def test_cache_reads_the_crops_of_the_images_that_it_is_for(tmp_path: Path, data: ImageSet) -> None:
    images, views = drawn(data, 64, 4)
    first = open_cache(tmp_path, data, network())
    expected = first.embed(images, views)
    first.save()
    later = network()
    only = EmbeddingCache(later, "net", PLAIN, data, DEVICE, tmp_path, Silent(), images=np.array([4]))
    of_four = torch.from_numpy(images == 4)
    found = only.embed(images[images == 4], Crops(*(part[of_four] for part in views)))
    assert torch.equal(found, expected[of_four])
    assert later.backbone.shown == 0
    only.embed(images[images == 5][:1], Crops(*(part[images == 5][:1] for part in views)))
    assert later.backbone.shown > 0


def test_clock_counts_a_remembered_crop_as_it_was_computed(tmp_path: Path, data: ImageSet) -> None:
    images, views = drawn(data, 64, 4)
    first = open_cache(tmp_path, data, network())
    first.embed(images, views)
    first.save()
    clock = CostClock()
    later = EmbeddingCache(network(), "net", PLAIN, data, DEVICE, tmp_path, Silent(), clock=clock)
    later.embed(images, views)
    assert later.misses == 0
    assert clock.seconds_saved > 0
