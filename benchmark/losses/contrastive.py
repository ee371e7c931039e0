"""Contrastive representation distillation: noise contrastive estimation against a memory of the training set.

Tian, Krishnan and Isola, ICLR 2020, arXiv 1910.10699. Learnt linear layers and ``unit_rows`` map both embeddings to 128
dimensions. In each step the caller computes ``crd_loss``, then calls ``update_memory_`` for both memories.
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
    """The rows of a memory grouped by class, for ``sample_negatives``."""

    order: Tensor  # (N,) rows, class by class
    starts: Tensor  # (K,) first position in order of each class
    sizes: Tensor  # (K,)


def negative_pool(labels: Tensor, num_classes: int) -> NegativePool:
    """Group the rows of a memory by class; called once per training set.

    Args:
        labels: Labels (N,), integers in [0, num_classes).
        num_classes: Number of classes.

    Returns:
        The rows of each class, for ``sample_negatives``.

    Raises:
        ValueError: Labels are out of range, or all of one class, which has no negatives then.
    """
    check_labels("negative_pool", labels, len(labels), num_classes)
    sizes = torch.bincount(labels, minlength=num_classes)
    if int(sizes.max()) == len(labels):
        raise ValueError(f"negative_pool: all {len(labels)} labels are of one class; negatives need a second one")
    return NegativePool(labels.argsort(stable=True), sizes.cumsum(0) - sizes, sizes)


def sample_negatives(
    pool: NegativePool, labels: Tensor, count: int = 16384, generator: torch.Generator | None = None
) -> Tensor:
    """Draw memory rows uniformly, with replacement, from the classes other than each anchor's.

    RepDistiller draws without replacement on the CPU. Noise contrastive estimation assumes independent draws, as here.
    Everything stays on the pool's device.

    Args:
        pool: The rows by class.
        labels: Labels (B,) of the anchors, on the pool's device.
        count: Number of negatives per anchor.
        generator: Source of randomness, on the pool's device; None for torch's own.

    Returns:
        Rows (B, count).

    Raises:
        ValueError: Labels are out of range (checked on the CPU).
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
    """Compute the constant of ``crd_loss``, log mean exp(score), from the first batch; it serves all later batches.

    It equals log(Z / N) of the paper's code. There is no gradient.

    Args:
        student: Student embeddings (B, C), unit rows.
        teacher: Teacher embeddings (B, C), unit rows.
        student_memory: Memory (N, C) of student embeddings.
        teacher_memory: Memory (N, C) of teacher embeddings.
        positives: Memory rows (B,) of the anchors.
        negatives: Memory rows (B, M) of the negatives.
        temperature: Temperature of the scores.

    Returns:
        Two constants (2,): student against the teacher's memory, teacher against the student's memory.

    Raises:
        ValueError: Wrong shapes or dtypes, or a temperature that is not positive.
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

    h = x / (x + M / N), x = exp(<anchor, memory row> / temperature) / Z: the posterior that the row is the anchor's own
    rather than noise. In logarithms, h is the sigmoid of <.,.> / temperature - log_normalizer - log M; N cancels.

    Tian et al., arXiv 1910.10699. The authors' defaults are temperature 0.07, M = 16384 negatives of other classes,
    momentum 0.5, 128 dimensions and weight 0.8. Their code adds 1e-7 to the denominators; the sigmoid does not need it.

    All N rows are scored by one product, and M of them are selected: B N C multiplications, but memory for B N numbers
    only. Gathering the rows first needs memory for B M C numbers. Time and memory are O(B) in the batch.

    Args:
        student: Student embeddings (B, C), unit rows.
        teacher: Teacher embeddings (B, C), unit rows; with gradient, because the teacher's linear layer is learnt too.
        student_memory: Memory (N, C) of student embeddings, without gradient.
        teacher_memory: Memory (N, C) of teacher embeddings, without gradient.
        positives: Memory rows (B,) of the anchors.
        negatives: Memory rows (B, M), from ``sample_negatives``.
        log_normalizer: Constants (2,), from ``crd_log_normalizer``.
        temperature: Temperature of the scores.

    Returns:
        A scalar.

    Raises:
        ValueError: Wrong shapes or dtypes, or a temperature that is not positive.
    """
    if log_normalizer.shape != (2,):
        raise ValueError(f"crd_loss: log_normalizer is {shape(log_normalizer)}; expected 2, from crd_log_normalizer")
    scores = _scores(student, teacher, student_memory, teacher_memory, positives, negatives, temperature)
    logits = [score - offset for score, offset in zip(scores, log_normalizer.detach().unbind(), strict=True)]
    return sum((_nce(logit) for logit in logits), start=student.new_zeros(()))


def _nce(logits: Tensor) -> Tensor:
    """Return the binary NCE loss of normalised scores (B, 1 + M), the positive first."""
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
    """Return scores (B, 1 + M): student against the teacher's memory, teacher against the student's memory."""
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
    """Set memory[rows] = normalize(momentum memory[rows] + (1 - momentum) embeddings), in place.

    If a row occurs twice in a batch, one of its two updates remains.

    Args:
        memory: Memory (N, C).
        rows: Rows (B,) to update.
        embeddings: Embeddings (B, C).
        momentum: Weight of the old row, in [0, 1]; 0.5 is the authors' default.

    Returns:
        The memory.

    Raises:
        ValueError: Shapes do not fit, or the momentum is outside [0, 1].
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
