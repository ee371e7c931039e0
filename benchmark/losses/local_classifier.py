"""The second stage of REFILLED: a local classifier induced by the teacher's embedding.

Ye, Lu and Zhan, CVPR 2020, "Distilling Cross-Task Knowledge via Relationship Matching"; same authors, TPAMI 2022,
"Generalized Knowledge Distillation via Relationship Matching", arXiv 2205.01915.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .geometry import unit_rows
from .validation import check_batch, check_labels, check_positive, check_same_shape, full_precision, shape


@full_precision
def class_centers(embeddings: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Unit class centres: c_k = normalize(mean of the embeddings of class k); the embeddings are not normalised before.

    arXiv 2205.01915 uses all training images of the student (global), CVPR 2020 the mini-batch.

    Args:
        embeddings: Embeddings (B, C).
        labels: Labels (B,), integers in [0, num_classes).
        num_classes: Number of classes.

    Returns:
        Centres (num_classes, C): unit rows, zeros for an absent class.

    Raises:
        ValueError: Wrong dimensions or dtypes, or labels out of range (checked on the CPU).
    """
    check_batch("class_centers", "B C", embeddings=embeddings)
    check_labels("class_centers", labels, len(embeddings), num_classes)
    sums = embeddings.new_zeros(num_classes, embeddings.shape[1]).index_add(0, labels.long(), embeddings)
    # bincount would do, but makes the host wait for the device
    counts = embeddings.new_zeros(num_classes).index_add(0, labels.long(), embeddings.new_ones(len(labels)))
    return unit_rows(sums / counts.clamp_min(1)[:, None])


@full_precision
def local_classifier_loss(
    student_logits: Tensor,
    teacher_embeddings: Tensor,
    centers: Tensor,
    labels: Tensor,
    temperature: float = 1.0,
    weights: Tensor | None = None,
) -> Tensor:
    """mean_i w_i KL(softmax(t_i / tau) || softmax(f(x_i))), both over the classes present in the batch only.

    t_i = [<e_i, c_k>] for the teacher's embedding e_i (not normalised) and the centres c_k. The student is not
    tempered, and there is no factor tau^2: arXiv 2205.01915 has tau = 1. CVPR 2020 divides both by tau = 2; the caller
    then divides the student's logits. Cross-entropy is not included.

    Args:
        student_logits: Student logits (B, K).
        teacher_embeddings: Teacher embeddings (B, C).
        centers: Centres (K, C), from ``class_centers``.
        labels: Labels (B,), integers in [0, K).
        temperature: Temperature tau of the teacher.
        weights: Weights (B,), from ``adaptive_weights`` for wgkd; None for 1.

    Returns:
        A scalar.

    Raises:
        ValueError: Wrong shapes or dtypes, a temperature that is not positive, or labels out of range (checked on the
            CPU).
    """
    what = "local_classifier_loss"
    check_positive(what, temperature=temperature)
    check_batch(what, "B K", student_logits=student_logits, teacher_embeddings=teacher_embeddings)
    check_batch(what, "K C", centers=centers)
    classes = student_logits.shape[1]
    check_labels(what, labels, len(student_logits), classes)
    if centers.shape != (classes, teacher_embeddings.shape[1]):
        raise ValueError(
            f"{what}: centers {shape(centers)} fit neither {classes} student classes nor teacher embeddings "
            f"{shape(teacher_embeddings)}; expected {classes}x{teacher_embeddings.shape[1]}, from class_centers"
        )
    absent = torch.ones(classes, dtype=torch.bool, device=labels.device).index_fill(0, labels.long(), False)
    teacher_logits = teacher_embeddings.detach() @ centers.detach().T / temperature
    log_teacher = F.log_softmax(teacher_logits.masked_fill(absent, -torch.inf), 1).masked_fill(absent, 0)
    log_student = F.log_softmax(student_logits.masked_fill(absent, -torch.inf), 1).masked_fill(absent, 0)
    # 0 in both logarithms makes the term of an absent class an exact 0, in value and gradient
    divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(1)
    if weights is not None:
        check_batch(what, "B", weights=weights)
        check_same_shape(what, "pass one weight per sample", weights=weights, divergence=divergence)
        divergence = divergence * weights.detach()
    return divergence.mean()


@full_precision
def adaptive_weights(teacher_logits: Tensor) -> Tensor:
    """Weights of wgkd: 2 sigmoid(-l~), l = -log max softmax(teacher logits), l~ = l min-max scaled over the batch.

    arXiv 2205.01915. The weight is 1 for the sample on which the teacher is most certain. If all are equally certain,
    such as in a batch of one, all weights are 1. There is no gradient.

    Args:
        teacher_logits: Logits (B, K) of the teacher's own head.

    Returns:
        Weights (B,) in [0.538, 1].

    Raises:
        ValueError: Wrong dimensions or dtype.
    """
    check_batch("adaptive_weights", "B K", teacher_logits=teacher_logits)
    doubt = -F.log_softmax(teacher_logits.detach(), 1).amax(1)
    doubt = doubt - doubt.min()
    widest = doubt.max()
    return 2 * torch.sigmoid(-doubt / torch.where(widest > 0, widest, 1.0))
