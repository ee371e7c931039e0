"""Losses of class-incremental learning against plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from benchmark import losses

B, K, D = 7, 5, 4
OLD, NEW = torch.tensor([3, 0]), torch.tensor([1, 4, 2])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


LABELS = torch.tensor([0, 1, 2, 3, 4, 4, 0])


def test_subset_cross_entropy_is_the_loop() -> None:
    logits = draw(B, K)
    parts = []
    for row, label in zip(logits, LABELS.tolist(), strict=True):
        if label in NEW.tolist():
            parts.append(-row[label] + math.log(sum(math.exp(row[k]) for k in NEW.tolist())))
    assert float(losses.subset_cross_entropy(logits, LABELS, NEW)) == pytest.approx(float(sum(parts) / len(parts)))


def test_sigmoid_distillation_is_the_loop() -> None:
    student, teacher = draw(B, K), draw(B, len(OLD), seed=1)
    total = 0.0
    for i in range(B):
        for k in range(K):
            target = float(LABELS[i] == k)
            if k in OLD.tolist():
                target = 1 / (1 + math.exp(-teacher[i, OLD.tolist().index(k)]))
            p = 1 / (1 + math.exp(-student[i, k]))
            total -= target * math.log(p) + (1 - target) * math.log(1 - p)
    value = losses.sigmoid_distillation_loss(student, teacher, LABELS, OLD)
    assert float(value) == pytest.approx(total / (B * K))


def test_feature_distillation_is_the_loop() -> None:
    student, teacher = draw(B, D), draw(B, D, seed=1)
    cosines = [float(a @ b / (a.norm() * b.norm())) for a, b in zip(student, teacher, strict=True)]
    assert float(losses.feature_distillation_loss(student, teacher)) == pytest.approx(1 - sum(cosines) / B)
    assert float(losses.feature_distillation_loss(student, 3 * student)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("rivals", [1, 2, 9])
def test_margin_ranking_is_the_loop(rivals: int) -> None:
    scores = draw(B, K)
    total, count = 0.0, 0
    for row, label in zip(scores, LABELS.tolist(), strict=True):
        if label in OLD.tolist():
            highest = sorted((float(row[k]) for k in NEW.tolist()), reverse=True)[:rivals]
            total += sum(max(0.0, 0.5 - float(row[label]) + s) for s in highest) / len(highest)
            count += 1
    assert float(losses.margin_ranking_loss(scores, LABELS, NEW, 0.5, rivals)) == pytest.approx(total / count)


CALLS: dict[str, Callable[[Tensor], Tensor]] = {
    "subset": lambda x: losses.subset_cross_entropy(x, LABELS, NEW),
    "sigmoid": lambda x: losses.sigmoid_distillation_loss(x, draw(B, len(OLD), seed=1), LABELS, OLD),
    "features": lambda x: losses.feature_distillation_loss(x, draw(B, K, seed=1)),
    "ranking": lambda x: losses.margin_ranking_loss(x, LABELS, NEW),
}


@pytest.mark.parametrize("name", CALLS)
def test_incremental_loss_gradients(name: str) -> None:
    assert torch.autograd.gradcheck(CALLS[name], (draw(B, K).requires_grad_(),))


@pytest.mark.parametrize("name", CALLS)
def test_incremental_loss_half_precision_is_widened(name: str) -> None:
    x = draw(B, K)
    with torch.autocast("cpu", torch.bfloat16):
        value = CALLS[name](x.float())
    assert value.dtype in (torch.float32, torch.float64)
    assert float(value) == pytest.approx(float(CALLS[name](x)), rel=1e-5)


def test_incremental_loss_no_sample_of_the_classes_gives_zero_and_no_gradient() -> None:
    for loss, labels in ((losses.subset_cross_entropy, torch.zeros(B)), (losses.margin_ranking_loss, torch.ones(B))):
        x = draw(B, K).requires_grad_()
        value = loss(x, labels.long(), NEW)
        value.backward()  # type: ignore[no-untyped-call]
        assert float(value.detach()) == 0
        assert x.grad is not None
        assert not x.grad.any()


def test_incremental_loss_embeddings_of_zeros_have_a_finite_gradient() -> None:
    x = torch.zeros(B, D, requires_grad=True)
    value = losses.feature_distillation_loss(x, draw(B, D).float())
    value.backward()  # type: ignore[no-untyped-call]
    assert float(value.detach()) == pytest.approx(1)
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_incremental_loss_wrong_inputs_are_named() -> None:
    x = draw(B, K)
    with pytest.raises(ValueError, match="name a class twice"):
        losses.subset_cross_entropy(x, LABELS, torch.tensor([1, 1]))
    with pytest.raises(ValueError, match="one or more int64 indices"):
        losses.margin_ranking_loss(x, LABELS, torch.tensor([], dtype=torch.int64))
    with pytest.raises(ValueError, match="have 1 classes, columns 2"):
        losses.sigmoid_distillation_loss(x, draw(B, 1), LABELS, OLD)
    with pytest.raises(ValueError, match="networks of one embedding size"):
        losses.feature_distillation_loss(x, draw(B, 3))
    with pytest.raises(ValueError, match=r"labels span 0\.\.4"):
        losses.subset_cross_entropy(draw(B, 4), LABELS, NEW)
    with pytest.raises(ValueError, match="margin is 0"):
        losses.margin_ranking_loss(x, LABELS, NEW, margin=0.0)
