"""How the weights of every family start: the law of each layer's weights, as in the code that it is named after."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from benchmark.backbones.network import Network, build_network
from benchmark.backbones.pretrained import PreprocessedBackbone

Law = Callable[[Tensor, int, int], None]
"""Checks weights with a fan-in and a fan-out."""

DEFAULT = ("conv4-16", "wrn-10-2", "mobilenetv1-x0.25")
"""Networks that start as PyTorch draws them: Prototypical Networks' code and REFILLED's."""
HE = ("resnet8", "resnet8x4", "resnet8-signed", "resnet12", "wrn-10-2-rd", "vgg8")
"""Networks whose convolutions start by He's rule on the fan-out: RepDistiller's, LUCIR's and MetaOptNet's code."""


def build(name: str, classes: int = 50) -> Network:
    return build_network(name, channels=3, size=32, classes=classes, seed=0)


def fans(layer: nn.Conv2d | nn.Linear) -> tuple[int, int]:
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    kernel = math.prod(layer.kernel_size)
    return layer.in_channels // layer.groups * kernel, layer.out_channels // layer.groups * kernel


def uniform_by_fan_in(weight: Tensor, fan_in: int, fan_out: int) -> None:
    """PyTorch's default: U(-1 / sqrt(fan-in), 1 / sqrt(fan-in)), for weights and biases."""
    bound = 1 / math.sqrt(fan_in)
    assert float(weight.abs().max()) <= bound
    check_moments(weight, bound / math.sqrt(3), kurtosis=9 / 5)
    if weight.numel() >= 200:
        assert float(weight.abs().max()) > 0.95 * bound


def normal_by_fan_out(weight: Tensor, fan_in: int, fan_out: int) -> None:
    """He's rule: N(0, 2 / fan-out), without bounds."""
    spread = math.sqrt(2 / fan_out)
    check_moments(weight, spread, kurtosis=3)
    if weight.numel() >= 2000:
        assert float(weight.abs().max()) > 2.5 * spread


def check_moments(weight: Tensor, spread: float, kurtosis: float) -> None:
    """Check mean and spread within five standard errors."""
    count = weight.numel()
    assert abs(float(weight.mean())) < 5 * spread / math.sqrt(count)
    variance_error = math.sqrt((kurtosis - 1) / count)
    assert abs(float(weight.square().mean()) / spread**2 - 1) < 5 * variance_error


@pytest.mark.parametrize(
    ("name", "law"), [*((name, uniform_by_fan_in) for name in DEFAULT), *((name, normal_by_fan_out) for name in HE)]
)
def test_convolutions_start_by_the_law_of_their_source(name: str, law: Law) -> None:
    convolutions = [module for module in build(name).backbone.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) >= 4
    for layer in convolutions:
        law(layer.weight.detach(), *fans(layer))
        if layer.bias is not None and law is uniform_by_fan_in:
            law(layer.bias.detach(), *fans(layer))
        elif layer.bias is not None:
            assert not layer.bias.any()


@pytest.mark.parametrize("name", [*DEFAULT, *HE])
def test_batch_norms_start_as_the_identity(name: str) -> None:
    norms = [module for module in build(name).backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    for norm in norms:
        assert torch.equal(norm.weight, torch.ones_like(norm.weight))
        assert not norm.bias.any()
        assert not norm.running_mean.any()  # type: ignore[union-attr]
        assert torch.equal(norm.running_var, torch.ones_like(norm.weight))  # type: ignore[arg-type]
        assert norm.eps == 1e-5


def heads(name: str) -> list[nn.Linear]:
    """The first head, a new head for other classes, and one that is drawn again."""
    network = build(name)
    first = network.head
    network.replace_head(50, seed=1)
    second = network.head
    torch.manual_seed(2)
    network.reset_head()
    assert network.head is second
    return [first, build(name, classes=51).head, second]


@pytest.mark.parametrize("name", [name for name in (*DEFAULT, *HE) if name not in ("wrn-10-2-rd", "vgg8")])
def test_heads_start_as_pytorch_draws_them(name: str) -> None:
    for head in heads(name):
        uniform_by_fan_in(head.weight.detach(), *fans(head))
        uniform_by_fan_in(head.bias.detach(), *fans(head))


def test_heads_of_repdistillers_wide_resnets_start_without_bias() -> None:
    for head in heads("wrn-10-2-rd"):
        uniform_by_fan_in(head.weight.detach(), *fans(head))
        assert not head.bias.any()


def test_heads_of_vgg_start_normal_with_deviation_one_hundredth() -> None:
    for head in heads("vgg8"):
        check_moments(head.weight.detach(), 0.01, kurtosis=3)
        assert float(head.weight.detach().abs().max()) > 0.025
        assert not head.bias.any()


def test_a_pretrained_backbone_draws_heads_as_its_family() -> None:
    inner = build("wrn-10-1-rd").backbone
    network = Network(PreprocessedBackbone(inner, 32, (0.5,) * 3, (0.5,) * 3), 7)
    network.replace_head(9, seed=0)
    assert not network.head.bias.any()


def test_only_the_signed_network_has_embeddings_of_both_signs() -> None:
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    both = {name: build(name) for name in ("resnet8", "resnet8-signed")}
    assert both["resnet8"].state_dict().keys() == both["resnet8-signed"].state_dict().keys()
    with torch.no_grad():
        usual, signed = (network.eval()(images) for network in both.values())
    assert float(usual.embedding.min()) >= 0 > float(signed.embedding.min())
    assert torch.equal(usual.stages["stage2"], signed.stages["stage2"])
    assert torch.equal(usual.stages["stage3"], torch.relu(signed.stages["stage3"]))
