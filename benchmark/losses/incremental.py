"""Losses of class-incremental learning: old classes are the teacher's, new classes are added."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .geometry import unit_rows
from .validation import check_batch, check_labels, check_positive, check_same_shape, full_precision, shape


@full_precision
def subset_cross_entropy(logits: Tensor, labels: Tensor, columns: Tensor) -> Tensor:
    """Cross-entropy over some classes: softmax over ``columns``, mean over the samples whose class is among them.

    LwF's term on new classes (Li and Hoiem, ECCV 2016, arXiv 1606.09282). It is 0, with gradient 0, if no sample is of
    these classes.

    Args:
        logits: Logits (B, K).
        labels: Labels (B,), integers in [0, K).
        columns: Distinct class indices (C,), int64.

    Returns:
        A scalar.

    Raises:
        ValueError: Wrong dimensions or dtypes, labels out of range (checked on the CPU), no column, or a repeated one.
    """
    check_batch("subset_cross_entropy", "B K", logits=logits)
    check_labels("subset_cross_entropy", labels, *logits.shape)
    _check_columns("subset_cross_entropy", columns)
    place = labels.new_full((logits.shape[1],), -1, dtype=torch.int64)
    place[columns] = torch.arange(len(columns), device=labels.device)
    target = place[labels]
    inside = (target >= 0).to(logits.dtype)
    each = F.cross_entropy(logits[:, columns], target.clamp_min(0), reduction="none")
    return (each * inside).sum() / inside.sum().clamp_min(1)


@full_precision
def sigmoid_distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, columns: Tensor
) -> Tensor:
    """iCaRL's loss: mean binary cross-entropy of all outputs, the old ones against the teacher's sigmoids.

    The targets of ``columns`` are sigmoid(teacher_logits). The target of any other output is 1 for the sample's class,
    else 0. Rebuffi et al., CVPR 2017, arXiv 1611.07725.

    Args:
        student_logits: Student logits (B, K).
        teacher_logits: Teacher logits (B, C).
        labels: Labels (B,), integers in [0, K).
        columns: Distinct indices (C,) of the old classes, int64, in the order of the teacher's outputs.

    Returns:
        A scalar.

    Raises:
        ValueError: Wrong dimensions or dtypes, labels out of range (checked on the CPU), or widths that do not fit.
    """
    check_batch("sigmoid_distillation_loss", "B K", student_logits=student_logits, teacher_logits=teacher_logits)
    check_labels("sigmoid_distillation_loss", labels, *student_logits.shape)
    _check_columns("sigmoid_distillation_loss", columns)
    if teacher_logits.shape[1] != len(columns):
        raise ValueError(
            f"sigmoid_distillation_loss: teacher_logits have {teacher_logits.shape[1]} classes, columns {len(columns)}"
        )
    target = F.one_hot(labels.long(), student_logits.shape[1]).to(student_logits)
    target[:, columns] = teacher_logits.detach().sigmoid()
    return F.binary_cross_entropy_with_logits(student_logits, target)


@full_precision
def feature_distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Less-forget constraint: mean over samples of 1 - cos(e_s, e_t).

    Hou et al. (LUCIR), CVPR 2019. An embedding of zeros counts as orthogonal.

    Args:
        student: Student embeddings (B, D).
        teacher: Teacher embeddings (B, D).

    Returns:
        A scalar.

    Raises:
        ValueError: The shapes differ.
    """
    check_batch("feature_distillation_loss", "B D", student=student, teacher=teacher)
    check_same_shape(
        "feature_distillation_loss", "take networks of one embedding size", student=student, teacher=teacher
    )
    return 1 - (unit_rows(student) * unit_rows(teacher.detach())).sum(1).mean()


@full_precision
def margin_ranking_loss(
    scores: Tensor, labels: Tensor, columns: Tensor, margin: float = 0.5, rivals: int = 2
) -> Tensor:
    """Inter-class separation: mean max(0, margin - s_y + s_k), y an old class, k the new classes of highest score.

    LUCIR, CVPR 2019 (margin 0.5, two rivals); the scores are cosines. It is 0, with gradient 0, if every sample is of a
    new class.

    Args:
        scores: Scores (B, K).
        labels: Labels (B,), integers in [0, K).
        columns: Distinct indices (C,) of the new classes, int64.
        margin: Required difference of scores.
        rivals: Number of new classes per sample.

    Returns:
        A scalar.

    Raises:
        ValueError: Wrong dimensions or dtypes, labels out of range (checked on the CPU), no column, a repeated one, or
            a margin that is not positive.
    """
    check_batch("margin_ranking_loss", "B K", scores=scores)
    check_labels("margin_ranking_loss", labels, *scores.shape)
    _check_columns("margin_ranking_loss", columns)
    check_positive("margin_ranking_loss", margin=margin, rivals=rivals)
    new = torch.zeros(scores.shape[1], dtype=torch.bool, device=scores.device)
    new[columns] = True
    old = (~new[labels]).to(scores.dtype)
    nearest = scores[:, columns].topk(min(rivals, len(columns)), dim=1).values
    own = scores.gather(1, labels[:, None].long())
    each = (margin - own + nearest).clamp_min(0).mean(1)
    return (each * old).sum() / old.sum().clamp_min(1)


def _check_columns(what: str, columns: Tensor) -> None:
    if columns.dim() != 1 or columns.dtype != torch.int64 or not len(columns):
        raise ValueError(f"{what}: columns are {columns.dtype} {shape(columns)}; pass one or more int64 indices")
    if columns.device.type == "cpu" and len(columns.unique()) < len(columns):
        raise ValueError(f"{what}: columns {columns.tolist()} name a class twice")
