"""A grouped network computes what each network computes alone, or is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from benchmark.backbones.grouped import GroupedNetwork
from benchmark.backbones.network import Backbone, Network

IMAGES = torch.randn(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class Odd(Backbone):
    """Grouped and strided convolutions, with bias and without, and a module of choice."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        first, second = nn.Conv2d(1, 4, 3, bias=False), nn.Conv2d(4, 6, 3, 2, 1, groups=2)
        self.layers = nn.Sequential(first, nn.BatchNorm2d(4), module, second)
        self.dim = 6

    def forward(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        features = self.layers(images)
        return {"last": features}, features.mean((2, 3))


def networks(module: nn.Module, classes: int = 3) -> list[Network]:
    return [Network(Odd(module), classes) for _ in range(2)]


@pytest.mark.parametrize("training", [True, False])
def test_grouped_outputs_and_statistics_equal_those_of_each_network(training: bool) -> None:
    alone = [network.train(training) for network in networks(nn.ReLU())]
    grouped = GroupedNetwork(alone)
    grouped.network.train(training)
    outputs = grouped(IMAGES)
    expected = [network(images) for network, images in zip(alone, IMAGES, strict=True)]
    for one, other in zip(outputs, expected, strict=True):
        assert torch.allclose(one.embedding, other.embedding, atol=1e-5)
        assert torch.allclose(one.logits, other.logits, atol=1e-5)
    statistics = [{k: v.clone() for k, v in network.state_dict().items()} for network in alone]
    grouped.copy_back()
    for network, state in zip(alone, statistics, strict=True):
        assert all(torch.allclose(v, state[k], atol=1e-6) for k, v in network.state_dict().items())


def test_networks_keep_their_weights_until_copy_back() -> None:
    originals = networks(nn.ReLU())
    before = [{k: v.clone() for k, v in original.state_dict().items()} for original in originals]
    grouped = GroupedNetwork(originals)
    grouped.check(IMAGES)
    with torch.no_grad():
        for parameter in grouped.network.parameters():
            parameter.add_(1)
    for original, state in zip(originals, before, strict=True):
        assert all(torch.equal(v, state[k]) for k, v in original.state_dict().items())
        assert all(module.training for module in original.modules())
    grouped.copy_back()
    for original, state in zip(originals, before, strict=True):
        assert all(torch.allclose(v, state[k] + 1) for k, v in original.named_parameters())
    assert not torch.equal(originals[0].head.weight, originals[1].head.weight)


def test_networks_that_mix_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="with a GroupNorm do not stand side by side"):
        GroupedNetwork(networks(nn.GroupNorm(2, 4)))
    with pytest.raises(ValueError, match="Odd mixes channels"):
        GroupedNetwork(networks(nn.Softmax(1))).check(IMAGES)
    with pytest.raises(ValueError, match="different architecture"):
        GroupedNetwork([*networks(nn.ReLU()), *networks(nn.ReLU(), 4)])
