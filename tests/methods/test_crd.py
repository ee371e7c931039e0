"""The memory of contrastive representation distillation."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from benchmark.checks.toy import Toy, make_toy
from benchmark.methods import LabelSpaces, Stage
from benchmark.methods.crd import CRD

TRAIN = Stage()


def value(toy: Toy) -> torch.Tensor:
    return toy.terms(TRAIN)["crd"]


def test_crd_term_equals_its_formula() -> None:
    """A naive loop over anchors and negatives, drawn by a generator in the same state."""
    toy = make_toy("crd", crd=0.5, width=8, temperature=0.5)
    assert isinstance(toy.method, CRD)
    memory = toy.method.memory
    student_memory, teacher_memory = memory.student_memory.clone(), memory.teacher_memory.clone()
    others = [[i for i in range(24) if toy.labels[i] != label] for label in toy.labels]
    generator = torch.Generator().set_state(memory.generator.get_state())
    draws = torch.rand(24, 20, dtype=torch.float64, generator=generator)
    negatives = [[others[i][int(draw * 20)] for draw in draws[i]] for i in range(24)]
    got = value(toy)
    ours = normalize(toy.student.embed(toy.images) @ memory.student.weight.T + memory.student.bias, dim=1)
    theirs = normalize(toy.teacher.embed(toy.images) @ memory.teacher.weight.T + memory.teacher.bias, dim=1)
    ours, theirs, wanted = ours.detach(), theirs.detach(), 0.0
    for anchors, bank in ((ours, teacher_memory), (theirs, student_memory)):
        x = [[math.exp(float(anchors[i] @ bank[j]) / 0.5) for j in [i, *negatives[i]]] for i in range(24)]
        z = sum(map(sum, x)) / (24 * 21) * 24
        for first, *rest in x:
            noise = 20 / 24
            wanted -= math.log(first / z / (first / z + noise))
            wanted -= sum(math.log(noise / (r / z + noise)) for r in rest)
    assert got.item() == pytest.approx(0.5 * wanted / 24, rel=1e-4)


def test_crd_memory_moves_by_its_momentum_for_images_of_the_batch() -> None:
    toy = make_toy("crd", momentum=0.25)
    assert isinstance(toy.method, CRD)
    memory = toy.method.memory
    before = memory.student_memory.clone()
    assert before.shape == (24, 128)
    assert before.abs().max() <= math.sqrt(3 / 128)
    toy.images, toy.labels = toy.images[:20], toy.labels[:20]
    with torch.no_grad():
        ours = memory(toy.student.embed(toy.images), toy.teacher.embed(toy.images))[0]
    value(toy).backward()
    assert torch.allclose(memory.student_memory[:20], normalize(0.25 * before[:20] + 0.75 * ours, dim=1), atol=1e-6)
    assert torch.equal(memory.student_memory[20:], before[20:])


def test_crd_normaliser_is_set_once() -> None:
    toy = make_toy("crd")
    assert isinstance(toy.method, CRD)
    assert toy.method.memory.log_normalizer.isnan().all()
    value(toy)
    first = toy.method.memory.log_normalizer.clone()
    assert first.isfinite().all()
    value(toy)
    assert torch.equal(first, toy.method.memory.log_normalizer)


def test_crd_continues_from_its_state() -> None:
    toy = make_toy("crd")
    torch.manual_seed(0)
    other = make_toy("crd")
    assert toy.method.connector is not None
    assert other.method.connector is not None
    assert torch.equal(value(toy), value(other))
    value(toy)
    other.method.connector.load_state_dict(toy.method.connector.state_dict())
    assert torch.equal(value(toy), value(other))
    fresh = make_toy("crd")
    assert fresh.method.connector is not None
    fresh.method.connector.load_state_dict(other.method.connector.state_dict())
    assert torch.equal(value(fresh), value(other))


def test_crd_trains_the_teachers_linear_head_only() -> None:
    toy = make_toy("crd")
    value(toy).backward()
    assert isinstance(toy.method, CRD)
    assert toy.method.memory.teacher.weight.grad is not None
    assert toy.method.memory.teacher.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in toy.teacher.parameters())


def test_crd_has_at_most_all_negatives() -> None:
    toy = make_toy("crd")
    assert isinstance(toy.method, CRD)
    assert toy.method._negatives == 20
    assert make_toy("crd", negatives=3).method._negatives == 3  # type: ignore[attr-defined]


def test_crd_refuses_one_class() -> None:
    toy = make_toy("crd")
    toy.method.labels = LabelSpaces((0,), (0,))
    with pytest.raises(ValueError, match="second one"):
        toy.method.prepare(toy.student, torch.zeros(24, dtype=torch.int64), None)
