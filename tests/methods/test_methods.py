"""Single methods, beyond the checks of every method."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from benchmark import losses
from benchmark.checks.toy import CLASSES, make_toy
from benchmark.errors import InputError
from benchmark.methods import Batch, LabelSpaces, Stage

TRAIN = Stage()


def test_label_spaces_match_by_identity() -> None:
    assert LabelSpaces((1, 2), (3, 4)).shared() == ([], [])
    assert LabelSpaces((5, 1, 9), (9, 5, 4)).shared() == ([0, 2], [1, 0])


def test_kd_equals_its_formula() -> None:
    toy = make_toy("kd", ce=0.3, kd=0.7, temperature=2.0)
    terms = toy.terms(TRAIN)
    student, teacher = toy.student(toy.images).logits, toy.teacher(toy.images).logits
    assert torch.allclose(terms["ce"], 0.3 * cross_entropy(student, toy.labels))
    assert torch.allclose(terms["kd"], 0.7 * losses.kd_loss(student, teacher, 2.0))


def test_kd_matches_shared_classes_by_identity() -> None:
    """A teacher whose outputs are a permutation of the student's classes gives the loss of the sorted teacher."""
    order = (3, 0, 5, 1, 4, 2)
    toy, sorted_toy = make_toy("kd", teacher_classes=order), make_toy("kd")
    with torch.no_grad():
        sorted_toy.teacher.head.weight[list(order)] = toy.teacher.head.weight
        sorted_toy.teacher.head.bias[list(order)] = toy.teacher.head.bias
    assert torch.allclose(toy.terms(TRAIN)["kd"], sorted_toy.terms(TRAIN)["kd"], rtol=1e-5)


def test_kd_on_an_overlap_ignores_classes_of_the_teacher_alone() -> None:
    toy = make_toy("kd", teacher_classes=(2, 4, 50, 51))
    before = toy.terms(TRAIN)["kd"]
    with torch.no_grad():
        toy.teacher.head.weight[2:] += 3.0
    assert torch.equal(before, toy.terms(TRAIN)["kd"])


def test_method_omits_terms_of_weight_zero() -> None:
    assert set(make_toy("rkd", angle=0.0).terms(TRAIN)) == {"ce", "distance"}
    assert set(make_toy("fitnet", hint=0.0).terms(TRAIN)) == {"ce"}
    assert set(make_toy("refilled", local=0.0).terms(Stage("classifier"))) == {"ce"}


def test_fitnet_refuses_an_unknown_stage() -> None:
    with pytest.raises(InputError, match="no stage 'stage9'; it has stage1, stage2"):
        make_toy("fitnet", tap="stage9")


def test_refilled_can_omit_either_stage() -> None:
    def names(share: float) -> list[tuple[str, bool]]:
        return [(s.name, s.reset_head) for s in make_toy("refilled", embedding_share=share).method.stages()]

    assert names(0.5) == [("embedding", False), ("classifier", True)]
    assert names(1.0) == [("embedding", False)]
    assert names(0.0) == [("classifier", False)]


def test_refilled_stages_equal_their_losses() -> None:
    toy = make_toy("refilled", margin=0.4, tuple_temperature=2.0, local=0.5, local_temperature=3.0)
    student, teacher = toy.student(toy.images), toy.teacher(toy.images)
    tuples = losses.tuple_matching_loss(
        student.embedding, teacher.embedding, toy.labels, temperature=2.0, margin=0.4, tuples="mask", weight=1000.0
    )
    first = toy.terms(Stage("embedding"))
    assert list(first) == ["tuples"]
    assert torch.allclose(first["tuples"], tuples)
    centers = losses.class_centers(teacher.embedding, toy.labels, CLASSES)
    weights = losses.adaptive_weights(teacher.logits)
    local = losses.local_classifier_loss(
        student.logits, teacher.embedding, centers, toy.labels, temperature=3.0, weights=weights
    )
    second = toy.terms(Stage("classifier"))
    assert torch.allclose(second["local"], 0.5 * local)
    assert torch.allclose(second["ce"], cross_entropy(student.logits, toy.labels))


def test_refilled_adaptive_weights_can_be_turned_off() -> None:
    stage = Stage("classifier")
    on, off = make_toy("refilled").terms(stage)["local"], make_toy("refilled", adaptive=False).terms(stage)["local"]
    assert on < off


def test_refilled_without_a_tuple_has_zero_loss_in_the_first_stage() -> None:
    toy = make_toy("refilled")
    one_class = Batch(torch.zeros(24, dtype=torch.int64), torch.arange(24), "embedding", 0.0)
    terms = toy.method.loss(one_class, toy.student(toy.images), toy.teacher(toy.images))
    assert terms["tuples"].item() == 0.0
