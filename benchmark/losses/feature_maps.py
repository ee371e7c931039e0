"""Losses on feature maps (B, C, H, W) of student and teacher. The teacher is a constant."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .geometry import unit_rows
from .validation import check_batch, check_same_shape, full_precision


@full_precision
def hint_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """FitNet's hint: mean over all elements of (F_s - F_t)^2.

    Romero et al., ICLR 2015, arXiv 1412.6550. RepDistiller's weight is 100, joint with cross-entropy.

    Args:
        student_map: Student maps after the regressor, usually (B, C, H, W).
        teacher_map: Teacher maps of the same shape.

    Returns:
        A scalar.

    Raises:
        ValueError: The shapes differ.
    """
    check_batch("hint_loss", " ".join("BCHW"[: student_map.dim()]), student_map=student_map, teacher_map=teacher_map)
    check_same_shape(
        "hint_loss", "put a regressor on the student's map", student_map=student_map, teacher_map=teacher_map
    )
    return F.mse_loss(student_map, teacher_map.detach())


@full_precision
def attention_transfer_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Attention transfer, one stage: mean of (a_s - a_t)^2, a = L2-normalised flatten(mean over channels of F^2).

    Zagoruyko and Komodakis, ICLR 2017, arXiv 1612.03928. The mean is that of the authors' code; the paper has a sum.
    RepDistiller's weight is 1000 on the sum of 3 stages. The larger map is adaptively average-pooled to the smaller.

    Args:
        student_map: Student maps (B, C_s, H_s, W_s).
        teacher_map: Teacher maps (B, C_t, H_t, W_t).

    Returns:
        A scalar.

    Raises:
        ValueError: Wrong dimensions or dtypes, or different batch sizes.
    """
    check_batch("attention_transfer_loss", "B C H W", student_map=student_map, teacher_map=teacher_map)
    student_map, teacher_map = _pooled_alike(student_map, teacher_map.detach())
    return F.mse_loss(_attention(student_map), _attention(teacher_map))


def _pooled_alike(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    size = min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3])
    return pooled(a, size), pooled(b, size)


def pooled(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps (B, C, H, W) adaptively average-pooled to a size; maps of that size are returned unchanged."""
    return x if x.shape[2:] == size else F.adaptive_avg_pool2d(x, size)


def _attention(x: Tensor) -> Tensor:
    return unit_rows(x.square().mean(1).flatten(1))


@full_precision
def similarity_preserving_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """||N(F_s F_s^T) - N(F_t F_t^T)||_F^2 / B^2, F flattened to (B, CHW), N = L2 normalisation of the rows.

    Tung and Mori, ICCV 2019, arXiv 1907.09682. RepDistiller's weight is 3000, on the last map. L2 means p = 2; a public
    implementation passes 1 for the axis and obtains p = 1. A batch of one gives 0, with gradient 0. Time and memory are
    O(B^2), beside the products of B^2 CHW.

    Args:
        student_map: Student maps (B, C_s, H_s, W_s).
        teacher_map: Teacher maps (B, C_t, H_t, W_t).

    Returns:
        A scalar.

    Raises:
        ValueError: Wrong dimensions or dtypes, or different batch sizes.
    """
    check_batch("similarity_preserving_loss", "B C H W", student_map=student_map, teacher_map=teacher_map)
    return F.mse_loss(_similarities(student_map), _similarities(teacher_map.detach()))


def _similarities(x: Tensor) -> Tensor:
    flat = x.flatten(1)
    return unit_rows(flat @ flat.T)


@full_precision
def nst_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Neuron selectivity transfer: mean k(t, t') + mean k(s, s') - 2 mean k(s, t), with k(x, y) = <x, y>^2.

    s and t are the channels of one sample: maps flattened over space and L2-normalised. The means are over samples and
    pairs of channels. The loss is the squared maximum mean discrepancy of a polynomial kernel. Time and memory are O(B)
    in the batch, and square in the channels.

    Huang and Wang, 2017, arXiv 1707.01219. The value equals RepDistiller's, whose weight is 50. The larger map is
    adaptively average-pooled to the smaller.

    Args:
        student_map: Student maps (B, C_s, H_s, W_s).
        teacher_map: Teacher maps (B, C_t, H_t, W_t).

    Returns:
        A scalar.

    Raises:
        ValueError: Wrong dimensions or dtypes, or different batch sizes.
    """
    check_batch("nst_loss", "B C H W", student_map=student_map, teacher_map=teacher_map)
    student_map, teacher_map = _pooled_alike(student_map, teacher_map.detach())
    s, t = student_map.flatten(2), teacher_map.flatten(2)
    ss, tt, st = (torch.bmm(a, b.transpose(1, 2)) for a, b in ((s, s), (t, t), (s, t)))
    ns, nt = _inverse_squares(ss), _inverse_squares(tt)
    return _kernel(tt, nt, nt) + _kernel(ss, ns, ns) - 2 * _kernel(st, ns, nt)


def _kernel(gram: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    # norms divide the small Gram matrix, not the large maps
    return (gram.square() * rows[:, :, None] * columns[:, None, :]).mean()


def _inverse_squares(gram: Tensor) -> Tensor:
    squares = gram.diagonal(dim1=1, dim2=2)
    return torch.where(squares > 1e-24, squares, 1.0).reciprocal()
