"""Contrastive representation distillation: noise contrastive estimation against a memory of the training set.

Tian, Krishnan and Isola, ICLR 2020, arXiv 1910.10699. Both networks pass a learnt linear embedding and unit_rows to 128
dimensions. A step of the caller: crd_loss, then update_memory_ for both memories.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .geometry import unit_rows
from .validation import check_batch, check_labels, check_positive, full_precision, shape


class NegativePool(NamedTuple):
    """The rows of a memory grouped by class, ready for sample_negatives."""

    order: Tensor  # (N,) rows, class by class
    starts: Tensor  # (K,) where in order a class begins
    sizes: Tensor  # (K,)


def negative_pool(labels: Tensor, num_classes: int) -> NegativePool:
    """Group the rows of a memory by their labels (N,), integers in [0, num_classes). Once per training set.

    ValueError: labels out of range, or all of one class, which leaves it no negatives.
    """
    check_labels("negative_pool", labels, len(labels), num_classes)
    sizes = torch.bincount(labels, minlength=num_classes)
    if int(sizes.max()) == len(labels):
        raise ValueError(f"negative_pool: all {len(labels)} labels are of one class; negatives need a second one")
    return NegativePool(labels.argsort(stable=True), sizes.cumsum(0) - sizes, sizes)


def sample_negatives(
    pool: NegativePool, labels: Tensor, count: int = 16384, generator: torch.Generator | None = None
) -> Tensor:
    """Rows (B, count) of the memory, uniform over the rows of classes other than each anchor's, drawn with replacement.

    labels (B,) of the anchors, on the pool's device; nothing leaves it. RepDistiller draws without replacement on the
    CPU; noise contrastive estimation assumes independent draws, which these are.
    """
    check_labels("sample_negatives", labels, len(labels), len(pool.sizes))
    start, size = pool.starts[labels, None], pool.sizes[labels, None]
    others = len(pool.order) - size
    # float64 reaches every row of any memory; float32 would skip rows beyond 2^24
    wide = torch.float32 if labels.device.type == "mps" else torch.float64
    draw = torch.rand(len(labels), count, dtype=wide, device=labels.device, generator=generator)
    place = (draw * others).long().minimum(others - 1)
    # the anchor's class is one run of the order: step over it
    return pool.order[torch.where(place < start, place, place + size)]


@full_precision
def crd_log_normalizer(
    student: Tensor,
    teacher: Tensor,
    student_memory: Tensor,
    teacher_memory: Tensor,
    positives: Tensor,
    negatives: Tensor,
    temperature: float = 0.07,
) -> Tensor:
    """log mean exp(score) of both directions (2,): the constant of crd_loss, taken once from the first batch and kept.

    The first entry is the student's embedding against the teacher's memory, the second the teacher's against the
    student's. Equals log(Z / N) of the paper's code. Arguments as in crd_loss. Without gradient.
    """
    with torch.no_grad():
        scores = _scores(student, teacher, student_memory, teacher_memory, positives, negatives, temperature)
        return torch.stack([torch.logsumexp(score.flatten(), 0) - math.log(score.numel()) for score in scores])


@full_precision
def crd_loss(
    student: Tensor,
    teacher: Tensor,
    student_memory: Tensor,
    teacher_memory: Tensor,
    positives: Tensor,
    negatives: Tensor,
    log_normalizer: Tensor,
    temperature: float = 0.07,
) -> Tensor:
    """-mean_i [log h(i, i) + sum_n log(1 - h(i, n))], one positive and M negatives, summed over both directions.

    h = x / (x + M / N), x = exp(<anchor, memory row> / temperature) / Z: the posterior that the row is the anchor's
    own rather than noise. In logarithms h is the sigmoid of <.,.> / temperature - log_normalizer - log M, where N has
    cancelled out.

    Tian et al., arXiv 1910.10699; temperature 0.07, M = 16384 of other classes, momentum 0.5, 128
    dimensions and weight 0.8 are the authors' defaults. Their code adds 1e-7 inside the logarithm of the denominators;
    the sigmoid needs no such guard.

    student, teacher (B, C) unit rows, both with gradient, because the teacher's linear embedding is learnt too; the
    two memories (N, C) without; positives (B,) rows of the anchors, negatives (B, M) from sample_negatives;
    log_normalizer (2,) from crd_log_normalizer. Returns a scalar. Scores all N rows by one product and picks M of
    them: B N C multiplications, but B N numbers of memory where gathering the rows first takes B M C.
    ValueError: wrong shapes or dtypes, temperature not positive.
    """
    if log_normalizer.shape != (2,):
        raise ValueError(f"crd_loss: log_normalizer is {shape(log_normalizer)}; expected 2, from crd_log_normalizer")
    scores = _scores(student, teacher, student_memory, teacher_memory, positives, negatives, temperature)
    logits = [score - offset for score, offset in zip(scores, log_normalizer.detach().unbind(), strict=True)]
    return sum((_nce(logit) for logit in logits), start=student.new_zeros(()))


def _nce(logits: Tensor) -> Tensor:
    """Binary NCE of scores (B, 1 + M) less their constant, the positive first."""
    logits = logits - math.log(logits.shape[1] - 1)
    return -(F.logsigmoid(logits[:, 0]) + F.logsigmoid(-logits[:, 1:]).sum(1)).mean()


def _scores(
    student: Tensor,
    teacher: Tensor,
    student_memory: Tensor,
    teacher_memory: Tensor,
    positives: Tensor,
    negatives: Tensor,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Scores (B, 1 + M) of the student's embedding in the teacher's memory, and of the teacher's in the student's."""
    what = "crd_loss"
    check_positive(what, temperature=temperature)
    check_batch(what, "B C", student=student, teacher=teacher)
    check_batch(what, "N C", student_memory=student_memory, teacher_memory=teacher_memory)
    check_labels(what, positives, len(student), len(student_memory))
    for name, memory, anchor in (
        ("student_memory", student_memory, teacher),
        ("teacher_memory", teacher_memory, student),
    ):
        if memory.shape[1] != anchor.shape[1]:
            raise ValueError(f"{what}: {name} {shape(memory)} does not fit embeddings {shape(anchor)}; use one width")
    if negatives.dim() != 2 or len(negatives) != len(student) or not negatives.shape[1]:
        raise ValueError(
            f"{what}: negatives are {shape(negatives)}; expected {len(student)} rows, from sample_negatives"
        )
    rows = torch.cat((positives[:, None], negatives), 1).long()
    in_teacher = (student @ teacher_memory.detach().T).gather(1, rows) / temperature
    in_student = (teacher @ student_memory.detach().T).gather(1, rows) / temperature
    return in_teacher, in_student


@torch.no_grad()
def update_memory_(memory: Tensor, rows: Tensor, embeddings: Tensor, momentum: float = 0.5) -> Tensor:
    """memory[rows] = normalize(momentum memory[rows] + (1 - momentum) embeddings), in place; returns memory.

    memory (N, C), rows (B,), embeddings (B, C); momentum 0.5 is the authors' default. A row met twice in a batch keeps
    one of its two updates.
    ValueError: shapes do not fit, momentum outside [0, 1].
    """
    check_batch("update_memory_", "B C", embeddings=embeddings)
    check_labels("update_memory_", rows, len(embeddings), len(memory))
    if memory.shape[1:] != embeddings.shape[1:]:
        raise ValueError(f"update_memory_: memory {shape(memory)} does not fit embeddings {shape(embeddings)}")
    if not 0 <= momentum <= 1:
        raise ValueError(f"update_memory_: momentum is {momentum}; it must lie in [0, 1]")
    mixed = momentum * memory[rows] + (1 - momentum) * embeddings.to(memory.dtype)
    memory[rows] = unit_rows(mixed)
    return memory
