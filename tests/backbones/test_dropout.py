from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmark.backbones.dropout import Dropout
from benchmark.backbones.network import build_network


def drop(features: Tensor, p: float, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    result: Tensor = Dropout(p).train()(features)
    return result


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.999])
def test_share_of_dropped_values_and_scale_of_the_others(p: float) -> None:
    ones = torch.ones(400_000)
    result = drop(ones, p)
    kept = result != 0
    spread = (p * (1 - p) / len(ones)) ** 0.5
    assert abs(float((~kept).float().mean()) - p) < 5 * spread
    assert torch.allclose(result[kept], ones[kept] / (1 - p), rtol=1e-2 if p > 0.9 else 1e-4)
    neighbours = (kept[1:] & kept[:-1]).float().mean()  # four values share a draw
    assert abs(float(neighbours) - (1 - p) ** 2) < 6 * spread
    assert abs(float(kept.view(-1, 4).all(1).float().mean()) - (1 - p) ** 4) < 6 * spread


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gradient_passes_where_values_are_kept(memory_format: torch.memory_format, dtype: torch.dtype) -> None:
    features = torch.rand(3, 5, 7, 2, dtype=dtype).add_(1).contiguous(memory_format=memory_format).requires_grad_()
    result = drop(features, 0.3)
    assert (result.dtype, result.stride()) == (features.dtype, features.stride())
    slope = torch.rand_like(features)
    result.backward(slope)
    assert features.grad is not None
    scale = 65536 / (65536 - 19661)
    assert torch.equal(features.grad, slope * (result != 0) * scale)
    assert torch.equal(result, features.detach() * (result != 0) * scale)
    assert 0 < int((result == 0).sum()) < result.numel()


def test_gradient_is_that_of_the_same_mask() -> None:
    features = torch.rand(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: drop(x, 0.4, seed=3), (features,))


def test_mask_follows_the_seed_alone() -> None:
    features = torch.rand(64, 10)
    assert torch.equal(drop(features, 0.3), drop(features, 0.3))
    assert not torch.equal(drop(features, 0.3), drop(features, 0.3, seed=1))
    assert torch.equal(drop(features, 0.3) == 0, drop(features[:, :].clone() * 2, 0.3) == 0)


def test_values_with_gaps_are_dropped_too() -> None:
    features = torch.rand(8, 20)[:, ::2]
    result = drop(features, 0.5)
    assert result.shape == features.shape
    assert torch.equal(result[result != 0], 2 * features[result != 0])


def test_nothing_is_dropped_in_evaluation_or_at_zero() -> None:
    features = torch.rand(10)
    assert Dropout(0.3).eval()(features) is features
    assert torch.equal(drop(features, 0.0), features)
    assert torch.equal(drop(features, 1.0), torch.zeros(10))
    assert drop(torch.empty(0, 3), 0.3).shape == (0, 3)


def test_networks_of_the_code_of_refilled_drop_by_it() -> None:
    network = build_network("wrn-10-1", channels=3, size=16, classes=3, seed=0)
    assert [type(m) for m in network.modules() if isinstance(m, torch.nn.Dropout)] == [Dropout] * 3
