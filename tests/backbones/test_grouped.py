"""Networks side by side give what each gives alone, or are refused."""

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
def test_outputs_and_statistics_are_those_of_each_network_alone(training: bool) -> None:
    alone = [network.train(training) for network in networks(nn.ReLU())]
    together = GroupedNetwork(alone)
    together.network.train(training)
    found = together(IMAGES)
    expected = [network(images) for network, images in zip(alone, IMAGES, strict=True)]
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one.embedding, other.embedding, atol=1e-5)
        assert torch.allclose(one.logits, other.logits, atol=1e-5)
    statistics = [{k: v.clone() for k, v in network.state_dict().items()} for network in alone]
    together.copy_back()
    for network, wanted in zip(alone, statistics, strict=True):
        assert all(torch.allclose(v, wanted[k], atol=1e-6) for k, v in network.state_dict().items())


def test_members_keep_their_weights_and_mode_until_told() -> None:
    members = networks(nn.ReLU())
    before = [{k: v.clone() for k, v in member.state_dict().items()} for member in members]
    together = GroupedNetwork(members)
    together.check(IMAGES)
    with torch.no_grad():
        for parameter in together.network.parameters():
            parameter.add_(1)
    for member, state in zip(members, before, strict=True):
        assert all(torch.equal(v, state[k]) for k, v in member.state_dict().items())
        assert all(module.training for module in member.modules())
    together.copy_back()
    for member, state in zip(members, before, strict=True):
        assert all(torch.allclose(v, state[k] + 1) for k, v in member.named_parameters())
    assert not torch.equal(members[0].head.weight, members[1].head.weight)


def test_networks_whose_channels_meet_are_refused() -> None:
    with pytest.raises(ValueError, match="with a GroupNorm do not stand side by side"):
        GroupedNetwork(networks(nn.GroupNorm(2, 4)))
    with pytest.raises(ValueError, match="Odd mixes channels"):
        GroupedNetwork(networks(nn.Softmax(1))).check(IMAGES)
    with pytest.raises(ValueError, match="different architecture"):
        GroupedNetwork([*networks(nn.ReLU()), *networks(nn.ReLU(), 4)])
