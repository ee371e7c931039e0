"""Dropout whose masks cost a tenth of PyTorch's on a CPU."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_WORDS = 1 << 16


class Dropout(nn.Dropout):
    """Dropout (Srivastava et al. 2014) that keeps a value where 16 random bits are not among the lowest ones.

    PyTorch draws a random number of 32 bits for each value, in double precision; that is a fifth of a training step of
    wrn-16-2. Here one draw of 64 bits serves four values. The share of values that are dropped is rounded to a multiple
    of 2^-16, and values are scaled by the share that is kept: 0.3 becomes 0.3000031. On a GPU, and compiled, it is
    PyTorch's own.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Drop values of a tensor of any shape in training mode; else return it as it is."""
        lowest = round(self.p * _WORDS)
        on_cpu = features.device.type == "cpu" and not torch.compiler.is_compiling()
        if not self.training or not 0 < lowest < _WORDS or not on_cpu:
            return F.dropout(features, self.p, self.training)
        dropped: Tensor = _Drop.apply(features, lowest)
        return dropped


class _Drop(torch.autograd.Function):
    """Multiply by a random mask, which is kept for the backward pass as one byte a value."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, lowest: int) -> Tensor:
        if not _is_dense(features):
            features = features.contiguous()
        count = features.numel()
        draws = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        kept = draws.view(torch.int16)[:count] >= lowest - _WORDS // 2
        keep = kept.as_strided(features.shape, features.stride())  # another order would cost a transposition
        ctx.save_for_backward(keep)
        ctx.scale = _WORDS / (_WORDS - lowest)
        return (features * keep).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (keep,) = ctx.saved_tensors
        return (gradient * keep).mul_(ctx.scale), None


def _is_dense(features: Tensor) -> bool:
    """Whether the values lie in memory without gaps, in any order of the dimensions."""
    return features.is_contiguous() or (
        features.ndim == 4 and features.is_contiguous(memory_format=torch.channels_last)
    )
