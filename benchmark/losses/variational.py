"""Variational information distillation: the likelihood of the teacher's map given the student's."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .validation import check_batch, check_same_shape, full_precision, shape

# RepDistiller's floor of the variance
_EPS = 1e-5


@full_precision
def vid_loss(mean: Tensor, log_scale: Tensor, teacher_map: Tensor) -> Tensor:
    """Mean over all elements of 0.5 [(mean - F_t)^2 / var + log var], var = softplus(log_scale) + 1e-5 per channel.

    This is the negative log-likelihood of the teacher's map under a Gaussian whose mean is predicted from the student's
    map, without the constant log(2 pi) / 2: the variational bound on mutual information. The value may be negative.

    Ahn et al., CVPR 2019, arXiv 1904.05835. RepDistiller's weight is 1. log_scale is learnt with the student;
    RepDistiller starts it at log(exp(5 - 1e-5) - 1), a variance of 5.

    Args:
        mean: Predicted maps (B, C, H, W).
        log_scale: Learnt scale (C,).
        teacher_map: Teacher maps (B, C, H, W).

    Returns:
        A scalar.

    Raises:
        ValueError: The shapes differ.
    """
    check_batch("vid_loss", "B C H W", mean=mean, teacher_map=teacher_map)
    check_same_shape("vid_loss", "put a regressor on the student's map", mean=mean, teacher_map=teacher_map)
    if log_scale.shape != mean.shape[1:2]:
        raise ValueError(f"vid_loss: log_scale is {shape(log_scale)}; expected one per channel, {mean.shape[1]}")
    variance = F.softplus(log_scale) + _EPS
    # the variance is one number per channel: divided by after the mean over the others, it costs nothing
    error = (mean - teacher_map.detach()).square().mean((0, 2, 3))
    return 0.5 * (error / variance + variance.log()).mean()
