"""VID against the density of a normal distribution."""

import math

import pytest
import torch
from torch import Tensor

from benchmark.losses import vid_loss


def batch(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    mean, target = (torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    return mean.to(dtype), torch.tensor([-3.0, 0.5, 2.0], dtype=dtype), target.to(dtype)


def test_vid_equals_the_negative_log_likelihood():
    mean, log_scale, target = batch()
    terms = []
    for c, scale in enumerate(log_scale.tolist()):
        deviation = math.sqrt(math.log(1 + math.exp(scale)) + 1e-5)
        for m, t in zip(mean[:, c].flatten().tolist(), target[:, c].flatten().tolist(), strict=True):
            density = torch.distributions.Normal(torch.tensor(m, dtype=torch.float64), deviation)
            terms.append(-density.log_prob(torch.tensor(t, dtype=torch.float64)).item() - math.log(2 * math.pi) / 2)
    assert vid_loss(mean, log_scale, target).item() == pytest.approx(sum(terms) / len(terms), rel=1e-12)


def test_vid_gradcheck():
    mean, log_scale, target = batch()
    assert torch.autograd.gradcheck(
        lambda m, s: vid_loss(m, s, target), (mean.requires_grad_(), log_scale.requires_grad_())
    )


def test_vid_best_variance_is_the_mean_squared_error():
    mean, _, target = batch()
    error = (mean - target).square().mean((0, 2, 3)) - 1e-5
    best = torch.log(torch.expm1(error)).requires_grad_()
    (gradient,) = torch.autograd.grad(vid_loss(mean, best, target), best)
    assert gradient.abs().max() < 1e-12


def test_vid_extreme_scales_stay_finite():
    mean, _, target = batch(torch.float32)
    scale = torch.tensor([-1e4, 0.0, 1e4], requires_grad=True)
    loss = vid_loss(mean, scale, target)
    (gradient,) = torch.autograd.grad(loss, scale)
    assert loss.isfinite()
    assert gradient.isfinite().all()


def test_vid_autocast_gives_the_float32_value():
    inputs = batch(torch.float32)
    want = vid_loss(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(vid_loss(*inputs), want)


def test_vid_bad_input_is_one_clear_error():
    mean, log_scale, target = batch()
    with pytest.raises(ValueError, match="mean 2x3x4x4 and teacher_map 2x2x4x4 differ; put a regressor"):
        vid_loss(mean, log_scale, target[:, :2])
    with pytest.raises(ValueError, match="log_scale is 3x1; expected one per channel, 3"):
        vid_loss(mean, log_scale[:, None], target)
