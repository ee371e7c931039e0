"""PKT against a loop over pairs."""

import math

import pytest
import torch
from torch import Tensor

from benchmark.losses import pkt_loss

from .golden import STUDENT, TEACHER, golden


def batch(size: int = 6, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(size, 4, generator=generator, dtype=torch.float64)
    return student.to(dtype), torch.randn(size, 7, generator=generator, dtype=torch.float64).to(dtype)


def oracle(student: Tensor, teacher: Tensor) -> float:
    def probabilities(x: Tensor) -> list[list[float]]:
        rows = [[v / math.hypot(*row) for v in row] for row in x.tolist()]
        q = [[(sum(u * v for u, v in zip(a, b, strict=True)) + 1) / 2 for b in rows] for a in rows]
        return [[entry / sum(row) for entry in row] for row in q]

    rows = zip(probabilities(student), probabilities(teacher), strict=True)
    pairs = [pair for s, t in rows for pair in zip(s, t, strict=True)]
    return sum(t * math.log((t + 1e-7) / (s + 1e-7)) for s, t in pairs) / len(student) ** 2


def test_pkt_golden():
    assert pkt_loss(STUDENT, TEACHER).item() == golden("pkt")


def test_pkt_equals_the_loop():
    student, teacher = batch()
    # the authors' 1e-7 beside the norm is left out of the oracle
    assert pkt_loss(student, teacher).item() == pytest.approx(oracle(student, teacher), rel=1e-5)


def test_pkt_gradcheck():
    student, teacher = batch()
    assert torch.autograd.gradcheck(lambda x: pkt_loss(x, teacher), student.requires_grad_())


def test_pkt_invariant_to_rotation_scale_and_order():
    student, teacher = batch()
    want = pkt_loss(student, teacher)
    generator = torch.Generator().manual_seed(1)
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64)).Q
    order = torch.randperm(6, generator=generator)
    torch.testing.assert_close(pkt_loss(3 * student @ rotation, 10 * teacher), want, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(pkt_loss(student[order], teacher[order]), want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pkt_identical_opposite_and_zero_rows_have_bounded_gradients(dtype):
    student, teacher = batch(dtype=dtype)
    student[1] = student[0]
    student[2] = -student[0]
    student[3] = 0
    student.requires_grad_()
    loss = pkt_loss(student, teacher)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.isfinite()
    assert gradient.abs().max() < 10


def test_pkt_one_sample_is_zero_with_zero_gradient():
    student, teacher = batch(1)
    loss = pkt_loss(student.requires_grad_(), teacher)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == 0
    assert gradient.abs().max() < 1e-15


def test_pkt_autocast_gives_the_float32_value():
    student, teacher = batch(dtype=torch.float32)
    want = pkt_loss(student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(pkt_loss(student, teacher), want)


def test_pkt_teacher_gets_no_gradient():
    student, teacher = batch()
    pkt_loss(student.requires_grad_(), teacher.requires_grad_()).backward()
    assert student.grad is not None
    assert teacher.grad is None


def test_pkt_bad_input_is_one_clear_error():
    student, teacher = batch()
    with pytest.raises(ValueError, match="student 6x4 and teacher 2x7 differ in batch size"):
        pkt_loss(student, teacher[:2])
    with pytest.raises(ValueError, match=r"teacher is 6; expected 2 dimensions \(B C\)"):
        pkt_loss(student, teacher[:, 0])
