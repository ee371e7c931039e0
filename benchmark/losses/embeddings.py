"""Probabilistic knowledge transfer: match the similarities within a batch of embeddings as probabilities."""

from __future__ import annotations

import torch
from torch import Tensor

from .validation import check_batch, full_precision

# the authors' constant, once beside the norm and once inside the logarithm
_EPS = 1e-7


@full_precision
def pkt_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over B^2 of q_t log((q_t + e) / (q_s + e)), q = row-normalised (cos + 1) / 2 with the diagonal, e = 1e-7.

    Passalis and Tefas, ECCV 2018, arXiv 1803.10837. RepDistiller's weight is 30000. A batch of one gives 0, with
    gradient 0. A row of zeros has cosine 0 to every row, and a finite gradient. Time and memory are O(B^2), beside the
    products of B^2 C.

    Args:
        student: Student embeddings (B, C_s).
        teacher: Teacher embeddings (B, C_t).

    Returns:
        A scalar.

    Raises:
        ValueError: Wrong dimensions or dtypes, or different batch sizes.
    """
    check_batch("pkt_loss", "B C", student=student, teacher=teacher)
    p_student, p_teacher = _similarities(student), _similarities(teacher.detach())
    return (p_teacher * ((p_teacher + _EPS) / (p_student + _EPS)).log()).mean()


def _similarities(x: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    # without the condition a row of zeros would have a gradient of 1 / e
    unit = x / torch.where(norm > 0, norm + _EPS, 1.0)
    similarities = (unit @ unit.T + 1) / 2
    p: Tensor = similarities / similarities.sum(1, keepdim=True)
    return p
