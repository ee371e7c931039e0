"""Losses on logits (B, K) of student and teacher over the same classes. The teacher is a constant."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .validation import check_batch, check_labels, check_positive, check_same_shape, full_precision

_SAME_CLASSES = "select the classes that both share, by identity, before the loss"


def _check(what: str, student_logits: Tensor, teacher_logits: Tensor) -> None:
    check_batch(what, "B K", student_logits=student_logits, teacher_logits=teacher_logits)
    check_same_shape(what, _SAME_CLASSES, student_logits=student_logits, teacher_logits=teacher_logits)


@full_precision
def ce_loss(student_logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy: mean over samples of -log softmax(z)_y.

    Args:
        student_logits: Student logits (B, K).
        labels: Labels (B,), integers in [0, K).

    Returns:
        A scalar.

    Raises:
        ValueError: Wrong dimensions or dtypes, or labels out of range (checked on the CPU).
    """
    check_batch("ce_loss", "B K", student_logits=student_logits)
    check_labels("ce_loss", labels, len(student_logits), student_logits.shape[1])
    return F.cross_entropy(student_logits, labels.long())


@full_precision
def binary_cross_entropy(student_logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over all outputs of the binary cross-entropy of sigmoid(z), with target 1 for the sample's class, else 0.

    Args:
        student_logits: Student logits (B, K).
        labels: Labels (B,), integers in [0, K).

    Returns:
        A scalar.

    Raises:
        ValueError: Wrong dimensions or dtypes, or labels out of range (checked on the CPU).
    """
    check_batch("binary_cross_entropy", "B K", student_logits=student_logits)
    check_labels("binary_cross_entropy", labels, *student_logits.shape)
    target = F.one_hot(labels.long(), student_logits.shape[1]).to(student_logits)
    return F.binary_cross_entropy_with_logits(student_logits, target)


@full_precision
def kd_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 4.0) -> Tensor:
    """Knowledge distillation: T^2 / B sum_i KL(softmax(z_t / T) || softmax(z_s / T)).

    Hinton, Vinyals and Dean, 2015, arXiv 1503.02531. T = 4 is RepDistiller's default, used as 0.1 CE + 0.9 KD.

    Args:
        student_logits: Student logits (B, K).
        teacher_logits: Teacher logits (B, K) over the same classes in the same order.
        temperature: Temperature T.

    Returns:
        A scalar.

    Raises:
        ValueError: The shapes differ, or the temperature is not positive.
    """
    _check("kd_loss", student_logits, teacher_logits)
    check_positive("kd_loss", temperature=temperature)
    log_student = F.log_softmax(student_logits / temperature, 1)
    log_teacher = F.log_softmax(teacher_logits.detach() / temperature, 1)
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True) * temperature**2


@full_precision
def dkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
) -> Tensor:
    """Decoupled knowledge distillation: T^2 / B sum_i [alpha KL(b_t || b_s) + beta KL(q_t || q_s)].

    b = [p_y, 1 - p_y] is the target against the rest, q the softmax over the classes other than y, both at temperature
    T. Everything is computed in log space, so saturated logits stay finite.

    Zhao et al., CVPR 2022, arXiv 2203.08679. The defaults alpha 1, beta 8, T 4 are mdistiller's for CIFAR-100. Its
    linear warm-up of the weight over 20 epochs is left to the caller.

    Args:
        student_logits: Student logits (B, K), K >= 2.
        teacher_logits: Teacher logits (B, K) over the same classes in the same order.
        labels: Labels (B,), integers in [0, K).
        alpha: Weight of the target part; at 0 it is not computed.
        beta: Weight of the non-target part; at 0 it is not computed.
        temperature: Temperature T.

    Returns:
        A scalar.

    Raises:
        ValueError: The shapes differ, there is one class, the temperature is not positive, or labels are out of range
            (checked on the CPU).
    """
    what = "dkd_loss"
    _check(what, student_logits, teacher_logits)
    check_positive(what, temperature=temperature)
    check_labels(what, labels, len(student_logits), student_logits.shape[1])
    if student_logits.shape[1] < 2:
        raise ValueError(f"{what}: student_logits have one class; a target needs at least one other class")
    target = labels.long()[:, None]
    student, teacher = student_logits / temperature, teacher_logits.detach() / temperature
    student_others, teacher_others = _others(student, target), _others(teacher, target)
    loss = student.new_zeros(())
    if alpha:
        on_target = _target_or_not(student, student_others, target), _target_or_not(teacher, teacher_others, target)
        loss = loss + alpha * _kl(*on_target)
    if beta:
        loss = loss + beta * _kl(F.log_softmax(student_others, 1), F.log_softmax(teacher_others, 1))
    return loss * temperature**2


def _kl(log_student: Tensor, log_teacher: Tensor) -> Tensor:
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)


def _others(logits: Tensor, target: Tensor) -> Tensor:
    """Return the logits (B, K - 1) of all classes but the target (B, 1); a boolean mask would make the host wait."""
    rank = torch.arange(logits.shape[1] - 1, device=logits.device)
    return logits.gather(1, rank + (rank >= target))


def _target_or_not(logits: Tensor, others: Tensor, target: Tensor) -> Tensor:
    """Return log probabilities (B, 2): of the target, and of all other classes together."""
    return F.log_softmax(torch.cat((logits.gather(1, target), others.logsumexp(1, keepdim=True)), 1), 1)


@full_precision
def dist_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 4.0) -> Tensor:
    """tau^2 [(1 - mean_b rho(p_s[b], p_t[b])) + (1 - mean_k rho(p_s[:, k], p_t[:, k]))], rho = Pearson's correlation.

    DIST: p = softmax(z / tau); relations between classes within a sample, and between samples within a class. A row or
    column without variance has correlation 0 with every other, so the second term of a batch of one is constant.

    Huang et al., NeurIPS 2022, arXiv 2205.10536; tau = 4 and 1 CE + 2 DIST are the authors' for CIFAR-100.

    Args:
        student_logits: Student logits (B, K).
        teacher_logits: Teacher logits (B, K) over the same classes in the same order.
        temperature: Temperature tau.

    Returns:
        A scalar.

    Raises:
        ValueError: The shapes differ, or the temperature is not positive.
    """
    _check("dist_loss", student_logits, teacher_logits)
    check_positive("dist_loss", temperature=temperature)
    student = F.softmax(student_logits / temperature, 1)
    teacher = F.softmax(teacher_logits.detach() / temperature, 1)
    between_classes = 1 - _pearson(student, teacher).mean()
    between_samples = 1 - _pearson(student.T, teacher.T).mean()
    return temperature**2 * (between_classes + between_samples)


def _pearson(a: Tensor, b: Tensor) -> Tensor:
    """Return the correlations (R,) of the rows of a and b (R, N)."""
    a, b = _deviations(a), _deviations(b)
    norms = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
    # the authors' constant: part of the value wherever a softmax is nearly flat
    correlation: Tensor = (a * b).sum(1) / (norms + 1e-8)
    return correlation


def _deviations(x: Tensor) -> Tensor:
    """Subtract the mean of each row; a row flat up to rounding becomes 0, because rho has a slope of 1e8 there."""
    deviations = x - x.mean(1, keepdim=True)
    size = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    flat = torch.linalg.vector_norm(deviations, dim=1, keepdim=True) <= 8 * torch.finfo(x.dtype).eps * size
    return deviations.masked_fill(flat, 0)
