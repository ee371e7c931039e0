"""Relationship matching, the first stage of REFILLED: the teacher scores tuples that are hard for the student.

Ye, Lu and Zhan, CVPR 2020, "Distilling Cross-Task Knowledge via Relationship Matching"; same authors, TPAMI 2022,
"Generalized Knowledge Distillation via Relationship Matching", arXiv 2205.01915.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .geometry import pairwise_distances, unit_rows
from .validation import check_batch, check_labels, check_positive, full_precision

Tuples = Literal["mask", "truncate", "triplet"]

# distances of unit vectors are at most 2: a finite mark for "not a negative", and a bound between the two
_FAR, _BEYOND = 4.0, 3.0
# elements of the matrices at work at one time; they stay in the cache and bound the memory
_BLOCK = 1 << 18
# a difference of prefix sums loses e^(2 / temperature) of the digits of float64: 5 of 16 here, the worst case
_COLDEST_PREFIX = 0.2


@full_precision
def tuple_matching_loss(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    temperature: float = 4.0,
    margin: float = 0.2,
    tuples: Tuples = "mask",
    weight: float = 1000.0,
) -> Tensor:
    """weight * mean over tuples of KL(P_t || P_s), P = softmax(-[d(a, p), d(a, n_1), ..., d(a, n_K)] / temperature).

    d is the distance of L2-normalised embeddings. A tuple is an anchor a, a positive p of its class and its semi-hard
    negatives, those with 0 < d_s(a, n) - d_s(a, p) <= margin. Tuples are mined on the student, without gradient, and
    scored by both networks. The forms of ``tuples``:

    * "mask": every tuple has all its negatives (the papers' intent). O(B^2 log B): the negatives of a tuple are a run
      of its anchor's negatives sorted by distance, so that differences of prefix sums give the softmax.
    * "truncate": every tuple has its first K negatives by index, K the smallest number of negatives of any tuple (the
      released code of arXiv 2205.01915, whose order of negatives is arbitrary). The host waits for the device.
      O(M B^2), M the size of the largest class in the batch.
    * "triplet": every pair (a, p) has the closest negative farther than p, else the farthest, without margin. The value
      is weight / 2 * mean KL of the Bernoulli(sigmoid((d(a, n) - d(a, p)) / temperature)) (the released code of CVPR
      2020, whose mean divides by 2N). O(B^2 log B).

    The defaults are those of the released code of arXiv 2205.01915. A batch without a tuple gives exactly 0, with
    gradient 0. Exponentials and their sums are in float64, because a KL of 1e-3 is a difference of numbers near 1.
    Below temperature 0.2, or on a device without float64, "mask" computes the softmax of every tuple, in O(M B^2). The
    loss can be differentiated once. Memory of "mask" and "triplet" is O(B^2).

    Args:
        student: Student embeddings (B, C_s).
        teacher: Teacher embeddings (B, C_t).
        labels: Labels (B,), integers.
        temperature: Temperature of the scores.
        margin: Largest difference of distances of a semi-hard negative.
        tuples: Form of the tuples.
        weight: Weight of the loss.

    Returns:
        A scalar.

    Raises:
        ValueError: Wrong shapes or dtypes, a temperature or margin that is not positive, or an unknown form.
    """
    what = "tuple_matching_loss"
    check_batch(what, "B C", student=student, teacher=teacher)
    check_labels(what, labels, len(student))
    check_positive(what, temperature=temperature, margin=margin)
    forms = {"mask": _mask, "truncate": _truncate, "triplet": _triplet}
    if tuples not in forms:
        raise ValueError(f"{what}: tuples is {tuples!r}; expected one of {', '.join(forms)}")
    student_distances = pairwise_distances(unit_rows(student))
    teacher_distances = pairwise_distances(unit_rows(teacher.detach()))
    loss = weight * forms[tuples](student_distances, teacher_distances, labels, temperature, margin)
    # a NaN is in no tuple: without this a diverged student would cost nothing
    return loss + 0 * (student_distances.detach().sum() + teacher_distances.sum())


class _Mined(NamedTuple):
    """Tuples of R anchors with M candidate positives each."""

    same: Tensor  # (R, B) of the anchor's class
    positives: Tensor  # (R, M) columns
    valid: Tensor  # (R, M) is a positive at all
    order: Tensor  # (R, B) columns of the negatives by distance, then the others
    low: Tensor  # (R, M) the tuple's negatives are order[low:high]
    high: Tensor  # (R, M)


def _positives(labels: Tensor, dense: bool) -> tuple[Tensor, Tensor]:
    """Return columns (B, M) that hold every anchor's positives, and a mask (B, M) of those that are positives.

    M is the size of the largest class, or B if dense: reading the size would make the host wait for the device.
    """
    size = len(labels)
    self_ = torch.arange(size, device=labels.device)[:, None]
    if dense:
        columns = self_.T.expand(size, size).contiguous()
        return columns, (labels[:, None] == labels) & (columns != self_)
    _, inverse, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    rank = torch.arange(int(counts.max()), device=labels.device)
    first = counts.cumsum(0) - counts
    columns = inverse.argsort(stable=True)[(first[inverse][:, None] + rank).clamp_max(size - 1)]
    return columns, (rank < counts[inverse][:, None]) & (columns != self_)


def _mine(
    distances: Tensor, labels: Tensor, margin: float, members: bool = False, wait: bool = False
) -> Iterator[tuple[slice, _Mined]]:
    """Yield the mined tuples of distances (B, B) in blocks of rows; smaller if members (R, M, B) are built later.

    If ``wait`` is set, the host may wait for an accelerator; it always may for the CPU.
    """
    columns, valid = _positives(labels, dense=not wait and distances.device.type != "cpu")
    rows_per_block = max(1, _BLOCK // (columns.numel() if members else len(labels)))
    for start in range(0, len(labels), rows_per_block):
        rows = slice(start, start + rows_per_block)
        same = labels[rows, None] == labels
        near = distances[rows].gather(1, columns[rows])
        negatives, order = distances[rows].masked_fill(same, _FAR).sort(dim=1)
        low = torch.searchsorted(negatives, near, right=True)
        high = torch.searchsorted(negatives, (near + margin).clamp_max_(_BEYOND), right=True)
        yield rows, _Mined(same, columns[rows], valid[rows], order, low, high)


def _widest(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def _mask(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, margin: float) -> Tensor:
    loss: Tensor = _MaskedTuples.apply(student, teacher, labels, temperature, margin)
    return loss


class _MaskedTuples(torch.autograd.Function):
    # the gradient is found with the value: no graph over the prefix sums is kept, one B x B matrix is
    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, margin: float
    ) -> Tensor:
        wide = _widest(student)
        by_prefix = temperature >= _COLDEST_PREFIX and wide == torch.float64
        divergences = _by_prefix_sums if by_prefix else _by_softmax
        total = torch.zeros((), dtype=wide, device=student.device)
        count = torch.zeros((), dtype=torch.int64, device=student.device)
        gradient = torch.empty_like(student) if ctx.needs_input_grad[0] else None
        for rows, mined in _mine(student, labels, margin, members=not by_prefix):
            z_student = student[rows].to(wide) / -temperature
            z_teacher = teacher[rows].to(wide) / -temperature
            kl, is_tuple, slope = divergences(z_student, z_teacher, mined, gradient is not None)
            total += kl.masked_fill_(~is_tuple, 0).sum()
            count += is_tuple.sum()
            if gradient is not None and slope is not None:
                gradient[rows] = slope
        count.clamp_min_(1)
        if gradient is not None:
            ctx.save_for_backward(gradient.div_(count).div_(-temperature))
        return (total / count).to(student.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return grad * gradient, None, None, None, None


def _by_prefix_sums(
    z_student: Tensor, z_teacher: Tensor, mined: _Mined, with_gradient: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the KL (R, M), a mask (R, M) of the tuples, and the gradient (R, B) of the sum of the KL in z_student.

    With S = sum exp(z_s) and T = sum exp(z_t) over a tuple, KL = sum exp(z_t) (z_t - z_s) / T - log T + log S, and its
    gradient with respect to z_s is exp(z_s) / S - exp(z_t) / T.
    """
    _, positives, valid, order, low, high = mined
    is_tuple = valid & (high > low)
    exp_student, exp_teacher = z_student.exp(), z_teacher.exp()
    cross = z_teacher.sub_(z_student).mul_(exp_teacher)

    def tuple_sums(terms: Tensor) -> Tensor:
        prefix = torch.zeros(len(terms), terms.shape[1] + 1, dtype=terms.dtype, device=terms.device)
        torch.cumsum(terms.gather(1, order), 1, out=prefix[:, 1:])
        return prefix.gather(1, high).sub_(prefix.gather(1, low)).add_(terms.gather(1, positives))

    student_sum, teacher_sum = tuple_sums(exp_student), tuple_sums(exp_teacher)
    kl = tuple_sums(cross).div_(teacher_sum).sub_(teacher_sum.log()).add_(student_sum.log())
    if not with_gradient:
        return kl, is_tuple, None

    def column_sums(sums: Tensor) -> Tensor:
        """Return for every column the sum (R, B) of 1 / sums over its tuples: the transpose of tuple_sums."""
        share = sums.reciprocal_().masked_fill_(~is_tuple, 0)
        steps = torch.zeros(len(order), order.shape[1] + 1, dtype=sums.dtype, device=sums.device)
        steps.scatter_add_(1, low, share).scatter_add_(1, high, -share)
        in_order = steps.cumsum(1)[:, :-1]
        return torch.zeros_like(in_order).scatter_(1, order, in_order).scatter_add_(1, positives, share)

    slope = exp_student.mul_(column_sums(student_sum)).sub_(exp_teacher.mul_(column_sums(teacher_sum)))
    return kl, is_tuple, slope


def _members(mined: _Mined) -> Tensor:
    """Return a mask (R, M, B) of the negatives of each tuple."""
    rank = mined.order.argsort(1)[:, None]
    return (rank >= mined.low[:, :, None]) & (rank < mined.high[:, :, None])


def _by_softmax(
    z_student: Tensor, z_teacher: Tensor, mined: _Mined, with_gradient: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the results of _by_prefix_sums at any temperature and precision, in O(R M B)."""
    members = _members(mined)
    is_tuple = mined.valid & members.any(2)
    outside = members.scatter_(2, mined.positives[:, :, None], True).logical_not_()
    log_student = z_student[:, None].masked_fill(outside, -torch.inf).log_softmax(2)
    log_teacher = z_teacher[:, None].masked_fill(outside, -torch.inf).log_softmax(2)
    student, teacher = log_student.exp(), log_teacher.exp()
    kl = log_teacher.sub_(log_student).masked_fill_(outside, 0).mul_(teacher).sum(2)
    slope = student.sub_(teacher).mul_(is_tuple[:, :, None]).sum(1) if with_gradient else None
    return kl, is_tuple, slope


def _truncate(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, margin: float) -> Tensor:
    entries = _truncated(student.detach(), labels, margin)
    if entries is None:
        return student.sum() * 0
    z_student = student.flatten()[entries].to(_widest(student)) / -temperature
    z_teacher = teacher.flatten()[entries].to(_widest(student)) / -temperature
    log_student, log_teacher = F.log_softmax(z_student, 1), F.log_softmax(z_teacher, 1)
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True).to(student.dtype)


def _truncated(distances: Tensor, labels: Tensor, margin: float) -> Tensor | None:
    """Return flat indices (tuples, 1 + K) of every positive and its first K negatives; None without a tuple."""
    size = len(labels)
    counts = torch.cat([(m.high - m.low)[m.valid] for _, m in _mine(distances, labels, margin, wait=True)])
    counts = counts[counts > 0]
    if not counts.numel():
        return None
    keep = int(counts.min())
    entries = []
    for rows, mined in _mine(distances, labels, margin, members=True, wait=True):
        members = _members(mined) & mined.valid[:, :, None]
        members &= members.cumsum(2) <= keep
        row, candidate, column = (index.view(-1, keep) for index in members.nonzero(as_tuple=True))
        positive = mined.positives[row[:, :1], candidate[:, :1]]
        entries.append((row[:, :1] + rows.start) * size + torch.cat((positive, column), 1))
    return torch.cat(entries)


def _triplet(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, margin: float) -> Tensor:
    total = student.sum() * 0
    count = torch.zeros((), dtype=torch.int64, device=student.device)
    for rows, mined in _mine(student.detach(), labels, margin):
        negatives = (~mined.same).sum(1, keepdim=True)
        negative = mined.order.gather(1, mined.low.minimum(negatives - 1).clamp_min_(0))
        is_tuple = mined.valid & (negatives > 0)

        def log_odds(distances: Tensor, negative: Tensor = negative, positive: Tensor = mined.positives) -> Tensor:
            return (distances.gather(1, negative) - distances.gather(1, positive)).to(_widest(distances)) / temperature

        odds_student, odds_teacher = log_odds(student[rows]), log_odds(teacher[rows])
        kl = F.sigmoid(odds_teacher) * (F.logsigmoid(odds_teacher) - F.logsigmoid(odds_student))
        kl = kl + F.sigmoid(-odds_teacher) * (F.logsigmoid(-odds_teacher) - F.logsigmoid(-odds_student))
        total = total + kl.masked_fill(~is_tuple, 0).sum().to(student.dtype)
        count += is_tuple.sum()
    return total / (2 * count.clamp_min(1))
