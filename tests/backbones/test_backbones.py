"""Contract of every registered backbone."""

from __future__ import annotations

import pytest
import torch

from benchmark.backbones import BACKBONES
from benchmark.backbones.connectors import MapRegressor
from benchmark.backbones.network import build_network
from benchmark.errors import InputError


@pytest.mark.parametrize("name", BACKBONES.names())
@pytest.mark.parametrize(("channels", "size"), [(1, 32), (3, 16)])
def test_contract(name: str, channels: int, size: int) -> None:
    network = build_network(name, channels=channels, size=size, classes=7, seed=3)
    images = torch.randn(5, channels, size, size)
    outputs = network(images)
    assert outputs.logits.shape == (5, 7)
    assert outputs.embedding.shape == (5, network.backbone.dim)
    assert len(outputs.stages) >= 3
    assert all(stage.shape[0] == 5 and stage.ndim == 4 for stage in outputs.stages.values())
    assert torch.equal(outputs.tap("stage2"), outputs.stages["stage2"])
    with pytest.raises(KeyError, match="stage1"):
        outputs.tap("stage99")
    outputs.logits.sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    network.eval()
    assert torch.equal(network(images).embedding, network.embed(images))


@pytest.mark.parametrize("name", BACKBONES.names())
def test_weights_follow_the_seed_alone(name: str) -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.rand(seed + 1)
        network = build_network(name, channels=1, size=16, classes=3, seed=seed)
        return torch.cat([p.detach().flatten() for p in network.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_building_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build_network("conv4-16", channels=1, size=16, classes=3, seed=9)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("width", "channels", "parameters"), [(64, 3, 112_832), (64, 1, 111_680), (16, 1, 7_184)])
def test_conv4_has_the_published_number_of_parameters(width: int, channels: int, parameters: int) -> None:
    """Without convolution biases, which batch norm makes idle: the usual 113,088 of Conv4-64 less 4 x 64."""
    network = build_network(f"conv4-{width}", channels=channels, size=32, classes=2, seed=0)
    assert sum(p.numel() for p in network.backbone.parameters()) == parameters


def test_pooling_before_relu_changes_nothing() -> None:
    network = build_network("conv4-16", channels=1, size=32, classes=2, seed=0).eval()
    x = images = torch.randn(3, 1, 32, 32)
    for convolution, norm, _, _ in network.backbone.blocks:  # type: ignore[misc, union-attr]
        x = torch.nn.functional.max_pool2d(torch.relu(norm(convolution(x))), 2)
    assert torch.allclose(network.embed(images), x.flatten(1), atol=1e-6)


@pytest.mark.parametrize("name", ["conv4-0", "conv4-16"])
def test_impossible_networks_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="16 x 16"):
        build_network(name, channels=1, size=16 if name == "conv4-0" else 8, classes=2, seed=0)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ((4, 8, 8), (6, 8, 8)),
        ((4, 8, 8), (6, 4, 4)),
        ((4, 4, 4), (6, 8, 8)),
        ((4, 9, 9), (6, 5, 5)),
        ((4, 7, 7), (6, 1, 1)),
    ],
)
def test_regressors_reach_the_teachers_shape(student: tuple[int, int, int], teacher: tuple[int, int, int]) -> None:
    assert MapRegressor(student, teacher)(torch.randn(2, *student)).shape == (2, *teacher)


def test_a_regressor_that_cannot_be_is_refused_with_the_shapes() -> None:
    with pytest.raises(InputError, match=r"\(4, 3, 3\) to a teacher map \(6, 8, 8\)"):
        MapRegressor((4, 3, 3), (6, 8, 8))
