"""Distances and unit rows, also at the poles of their derivatives."""

import pytest
import torch

from benchmark.losses.geometry import pairwise_distances, unit_rows


def test_pairwise_distances_equal_the_loop():
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    want = torch.stack([torch.stack([(a - b).norm() for b in x]) for a in x])
    torch.testing.assert_close(pairwise_distances(x), want)
    assert torch.autograd.gradcheck(pairwise_distances, x.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pairwise_distances_of_identical_rows_are_zero_with_zero_gradient(dtype):
    x = torch.randn(40, 33, generator=torch.Generator().manual_seed(0), dtype=dtype)
    x[20:] = x[:20]
    x.requires_grad_()
    distances = pairwise_distances(x)
    twins = distances[torch.arange(20), torch.arange(20, 40)]
    assert torch.equal(twins, torch.zeros_like(twins))
    assert torch.equal(distances.diagonal(), torch.zeros_like(x[:, 0]))
    (gradient,) = torch.autograd.grad(twins.sum(), x)
    assert torch.equal(gradient, torch.zeros_like(x))


def test_unit_rows_have_length_one_and_bounded_gradients():
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-3, 0.0]], dtype=torch.float64, requires_grad=True)
    unit = unit_rows(x)
    torch.testing.assert_close(unit, torch.tensor([[0.6, 0.8], [0.0, 0.0], [1.0, 0.0]], dtype=torch.float64))
    (gradient,) = torch.autograd.grad(unit.sum(), x)
    assert gradient.isfinite().all()
    assert gradient[1].abs().max() <= 1
