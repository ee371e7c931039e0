"""Methods of incremental learning against the formulas of the code that they are named after, in value and gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.backbones.network import Backbone, CosineHead, Network, Outputs
from benchmark.methods import METHODS, Batch, LabelSpaces, Method, Shapes

OLD, NEW, DIM, B = 6, 2, 5, 9
LABELS = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 7])
SPACES = LabelSpaces(tuple(range(OLD + NEW)), tuple(range(OLD)))
SHAPES = Shapes({"embedding": (DIM,), "logits": (OLD + NEW,)})


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def build(name: str, **settings: Any) -> Method:
    entry = METHODS.get(name).entry
    return entry(entry.Settings(**settings), SPACES, SHAPES, SHAPES)


def outputs() -> tuple[Outputs, Outputs]:
    student = Outputs({}, draw(B, DIM, seed=2).requires_grad_(), (3 * draw(B, OLD + NEW, seed=0)).requires_grad_())
    return student, Outputs({}, draw(B, DIM, seed=3), 3 * draw(B, OLD, seed=1))


def terms_of(method: Method) -> tuple[dict[str, Tensor], Outputs, Outputs]:
    student, teacher = outputs()
    return method.loss(Batch(LABELS, torch.arange(B), "train", 0.5), student, teacher), student, teacher


def soft_cross_entropy(student: Tensor, teacher: Tensor) -> Tensor:
    """PyCIL's distillation: the cross-entropy of softened outputs at temperature 2, without a factor."""
    return -(F.softmax(teacher / 2, 1) * F.log_softmax(student[:, :OLD] / 2, 1)).sum() / len(student)


def pycil_wa(student: Tensor, teacher: Tensor) -> Tensor:
    share = OLD / (OLD + NEW)
    return (1 - share) * F.cross_entropy(student, LABELS) + share * soft_cross_entropy(student, teacher)


def hugoycj_wa(student: Tensor, teacher: Tensor) -> Tensor:
    return F.cross_entropy(student, LABELS) + 4 * soft_cross_entropy(student, teacher)


def eeil(student: Tensor, teacher: Tensor) -> Tensor:
    return F.cross_entropy(student, LABELS) + soft_cross_entropy(student, teacher)


def icarl(student: Tensor, teacher: Tensor) -> Tensor:
    target = F.one_hot(LABELS, OLD + NEW).double()
    target[:, :OLD] = teacher.sigmoid()
    return 20 * F.binary_cross_entropy(student.sigmoid(), target)


def lucir_baseline(student: Tensor, teacher: Tensor) -> Tensor:
    """LUCIR's baseline: an element-wise mean, times T^2, beta = 0.25 and the number of old classes."""
    kl = F.kl_div(F.log_softmax(student[:, :OLD] / 2, 1), F.softmax(teacher / 2, 1), reduction="none").mean()
    return F.cross_entropy(student, LABELS) + kl * 4 * 0.25 * OLD


@pytest.mark.parametrize(
    ("name", "settings", "published"),
    [
        ("wa", {}, pycil_wa),
        ("wa", {"share": False, "kd": 4.0}, hugoycj_wa),
        ("eeil", {}, eeil),
        ("icarl", {}, icarl),
        ("kd", {"ce": 1.0, "kd": 0.25, "temperature": 2.0}, lucir_baseline),
    ],
)
def test_gradient_is_that_of_the_published_code(
    name: str, settings: dict[str, Any], published: Callable[[Tensor, Tensor], Tensor]
) -> None:
    terms, student, teacher = terms_of(build(name, **settings))
    (found,) = torch.autograd.grad(torch.stack(list(terms.values())).sum(), student.logits)
    logits = student.logits.detach().requires_grad_()
    (expected,) = torch.autograd.grad(published(logits, teacher.logits), logits)
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_terms_of_weight_zero_are_left_out() -> None:
    assert set(terms_of(build("wa", kd=0.0))[0]) == {"ce"}
    assert set(terms_of(build("eeil", kd=0.0))[0]) == {"ce"}


def lucir(old_rows: str) -> tuple[Method, Network]:
    class Plain(Backbone):
        dim = DIM

    student = Network(Plain(), OLD + NEW).double()
    method = build("lucir", old_rows=old_rows)
    method.prepare(student, LABELS, draw(B, DIM, seed=4))
    return method, student


def test_weight_of_lucirs_features_is_that_of_its_code() -> None:
    """5 sqrt(n_old / n_new), on the mean of 1 - cos."""
    terms, student, teacher = terms_of(lucir("fixed")[0])
    cosines = F.cosine_similarity(student.embedding.detach(), teacher.embedding)
    assert float(terms["features"].detach()) == pytest.approx(5 * math.sqrt(OLD / NEW) * float((1 - cosines).mean()))


@pytest.mark.parametrize("old_rows", ["fixed", "learn"])
def test_lucir_keeps_the_directions_of_old_rows(old_rows: str) -> None:
    """As in its code, where they have no rate; weight decay shortens them here, which changes no cosine."""
    head = lucir(old_rows)[1].head
    assert isinstance(head, CosineHead)
    before = F.normalize(head.weight.detach(), dim=1)
    optimiser = torch.optim.SGD(head.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    for _ in range(20):
        optimiser.zero_grad()
        F.cross_entropy(head(draw(B, DIM, seed=5)), LABELS).backward()
        optimiser.step()
    kept = torch.isclose(before, F.normalize(head.weight.detach(), dim=1), atol=1e-9).all(1)
    assert not kept[OLD:].any()
    assert bool(kept[:OLD].all()) == (old_rows == "fixed")
    assert bool(kept[:OLD].any()) == (old_rows == "fixed")


def test_cross_entropy_of_sigmoid_outputs_is_icarls_first_phase() -> None:
    entry = METHODS.get("ce").entry
    method = entry(entry.Settings(outputs="bce"), LabelSpaces((0, 1, 2), ()), SHAPES, SHAPES)
    logits, labels = draw(4, 3, seed=0), torch.tensor([0, 1, 2, 2])
    terms = method.loss(Batch(labels, labels, "train", 0.0), Outputs({}, logits, logits), None)
    target = F.one_hot(labels, 3).double()
    assert float(terms["bce"]) == pytest.approx(20 * float(F.binary_cross_entropy(logits.sigmoid(), target)))


def test_stage_one_ends_at_a_tenth_of_the_rate_and_that_of_cvpr20_is_constant() -> None:
    for name, final in (("refilled", 0.1), ("refilled-cvpr20", 1.0)):
        entry = METHODS.get(name).entry
        assert entry.stages_for(entry.Settings())[0].final_lr == final
