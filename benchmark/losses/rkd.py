"""Relational knowledge distillation: match distances and angles within a batch of embeddings.

Park, Kim, Lu and Cho, CVPR 2019, arXiv 1904.05068. The values equal RepDistiller's, whose weights are 25 (distance) and
50 (angle).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .geometry import noise_floor, pairwise_distances
from .validation import check_batch, full_precision

# elements of one (vertices, B, B) block of cosines: a few such blocks stay in a core's cache
_BLOCK = 1 << 18


@full_precision
def rkd_distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """smooth_l1(d_s / mu_s, d_t / mu_t), mean over B^2 entries with the zero diagonal; mu = mean positive distance.

    The gradient flows through mu_s. The loss is invariant to translation, rotation and scaling of either side. If all
    rows coincide, as in a batch of one, the distances and the gradient are 0. Time and memory are O(B^2), beside the
    products of B^2 C.

    Args:
        student: Student embeddings (B, C_s), not normalised.
        teacher: Teacher embeddings (B, C_t), not normalised.

    Returns:
        A scalar.

    Raises:
        ValueError: Wrong dimensions or dtypes, or different batch sizes.
    """
    check_batch("rkd_distance_loss", "B C", student=student, teacher=teacher)
    return F.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher.detach()))


def _relative_distances(x: Tensor) -> Tensor:
    distances = pairwise_distances(x)
    positive = distances > 0
    mean = distances.sum() / positive.sum().clamp_min(1)
    return distances / torch.where(mean > 0, mean, 1.0)


@full_precision
def rkd_angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """smooth_l1(A_s, A_t), mean over B^3 triples; A_jik = <normalize(x_i - x_j), normalize(x_k - x_j)>, cosine at j.

    The loss is invariant to translation, rotation and scaling of either side. Coinciding rows have cosine 0, with
    gradient 0. The cosines are (G_ik - G_ij - G_jk + G_jj) / (d_ij d_jk) with G = X X^T, in blocks of vertices j; the
    gradient is computed with the value. This takes O(B^3) time and O(B^2) memory; the naive form takes O(B^3 + B^2 C)
    memory. It can be differentiated once.

    Args:
        student: Student embeddings (B, C_s), not normalised.
        teacher: Teacher embeddings (B, C_t), not normalised.

    Returns:
        A scalar.

    Raises:
        ValueError: Wrong dimensions or dtypes, or different batch sizes.
    """
    check_batch("rkd_angle_loss", "B C", student=student, teacher=teacher)
    loss: Tensor = _AngleLoss.apply(student, teacher.detach())
    return loss


class _Angles(NamedTuple):
    centred: Tensor
    gram: Tensor
    inverse: Tensor  # 1 / d_ij, 0 if the rows coincide

    @classmethod
    def of(cls, x: Tensor) -> _Angles:
        centred = x - x.mean(0)
        gram = centred @ centred.T
        squares = gram.diagonal()
        squared = squares[:, None] + squares[None, :] - 2 * gram
        apart = squared > noise_floor(x, squares)
        return cls(centred, gram, squared.masked_fill_(~apart, torch.inf).rsqrt_())

    def cosines(self, block: slice) -> Tensor:
        """Return the cosines (vertices, B, B) at the vertices of the block."""
        to_vertex = self.gram[block] - self.gram.diagonal()[block, None] / 2
        inverse = self.inverse[block]
        cosines = self.gram - to_vertex[:, :, None]
        return cosines.sub_(to_vertex[:, None, :]).mul_(inverse[:, :, None]).mul_(inverse[:, None, :])


class _AngleLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        s, t = _Angles.of(student), _Angles.of(teacher)
        size = len(student)
        total = student.new_zeros(())
        with_gradient = ctx.needs_input_grad[0]
        gram_grad = torch.zeros_like(s.gram)
        rows_per_block = max(1, _BLOCK // size**2)
        for start in range(0, size, rows_per_block):
            block = slice(start, start + rows_per_block)
            cosines = s.cosines(block)
            error = cosines - t.cosines(block)
            clipped = error.clamp(-1, 1)
            # smooth_l1(e) = clip(e) (e - clip(e) / 2)
            total += torch.dot(clipped.view(-1), error.view(-1)) - torch.dot(clipped.view(-1), clipped.view(-1)) / 2
            if with_gradient:
                _accumulate(gram_grad, s, block, cosines, clipped)
        if with_gradient:
            pull = gram_grad + gram_grad.T
            ctx.save_for_backward(pull @ s.centred / size**3)
        return total / size**3

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return grad * gradient, None


def _accumulate(gram_grad: Tensor, s: _Angles, block: slice, cosines: Tensor, slope: Tensor) -> None:
    """Add to gram_grad (B, B) the gradient in G of the block's cosines, weighted by slope; overwrites both."""
    inverse = s.inverse[block]
    # through d: d cos / d(d_ij^2) = -cos / (2 d_ij^2), met once as i and once as k; d_ij^2 = G_ii + G_jj - 2 G_ij
    through_distance = cosines.mul_(slope).sum(2).mul_(inverse**2)
    # through the numerator G_ik - G_ij - G_jk + G_jj
    slope.mul_(inverse[:, :, None]).mul_(inverse[:, None, :])
    gram_grad += slope.sum(0)
    through_numerator = slope.sum(2)
    gram_grad[block] += 2 * (through_distance - through_numerator)
    diagonal = gram_grad.diagonal()
    diagonal -= through_distance.sum(0)
    diagonal[block] += through_numerator.sum(1) - through_distance.sum(1)
