"""RKD against loops over pairs and triples written from the paper."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmark.losses import rkd, rkd_angle_loss, rkd_distance_loss

from .golden import STUDENT, TEACHER, golden

LOSSES = {"distance": rkd_distance_loss, "angle": rkd_angle_loss}
EACH = pytest.mark.parametrize("name", LOSSES)


def batch(size: int = 9, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(size, 5, generator=generator, dtype=torch.float64),
        torch.randn(size, 7, generator=generator, dtype=torch.float64),
    )


def distance_oracle(student: Tensor, teacher: Tensor) -> Tensor:
    def relative(x: Tensor) -> list[Tensor]:
        entries = [(a - b).norm() if not torch.equal(a, b) else x.sum() * 0 for a in x for b in x]
        positive = [d for d in entries if d > 0]
        return [d / torch.stack(positive).mean() if positive else d for d in entries]

    pairs = zip(relative(student), relative(teacher), strict=True)
    return torch.stack([F.smooth_l1_loss(s, t) for s, t in pairs]).mean()


def angle_oracle(student: Tensor, teacher: Tensor) -> Tensor:
    def cosine(x: Tensor, j: int, i: int, k: int) -> Tensor:
        if torch.equal(x[i], x[j]) or torch.equal(x[k], x[j]):
            return x.sum() * 0
        a, b = x[i] - x[j], x[k] - x[j]
        return (a / a.norm()) @ (b / b.norm())

    corners = [(j, i, k) for j in range(len(student)) for i in range(len(student)) for k in range(len(student))]
    return torch.stack([F.smooth_l1_loss(cosine(student, *c), cosine(teacher, *c)) for c in corners]).mean()


ORACLES = {"distance": distance_oracle, "angle": angle_oracle}


def value_and_gradient(loss, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    student = student.clone().requires_grad_()
    value = loss(student, teacher)
    (gradient,) = torch.autograd.grad(value, student)
    return value.detach(), gradient


@EACH
def test_rkd_golden(name):
    assert LOSSES[name](STUDENT, TEACHER).item() == golden(f"rkd_{name}")


@EACH
@settings(max_examples=15, deadline=None)
@given(size=st.integers(1, 8), seed=st.integers(0, 10_000), twins=st.booleans())
def test_rkd_equals_the_loop_in_value_and_gradient(name, size, seed, twins):
    student, teacher = batch(size, seed)
    if twins and size > 2:
        student[0] = student[1]
        teacher[2] = teacher[1]
    want, want_gradient = value_and_gradient(ORACLES[name], student, teacher)
    got, gradient = value_and_gradient(LOSSES[name], student, teacher)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient, want_gradient, rtol=1e-8, atol=1e-10)


@EACH
def test_rkd_gradcheck(name):
    student, teacher = batch()
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, teacher), student.requires_grad_())


def test_rkd_angle_does_not_depend_on_the_blocks(monkeypatch):
    student, teacher = batch()
    want, want_gradient = value_and_gradient(rkd_angle_loss, student, teacher)
    monkeypatch.setattr(rkd, "_BLOCK", 2 * 9**2)
    got, gradient = value_and_gradient(rkd_angle_loss, student, teacher)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(gradient, want_gradient)


@EACH
def test_rkd_invariant_to_translation_rotation_scale_and_order(name):
    student, teacher = batch()
    want = LOSSES[name](student, teacher)
    generator = torch.Generator().manual_seed(1)
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64)).Q
    order = torch.randperm(len(student), generator=generator)
    torch.testing.assert_close(LOSSES[name](3 * student @ rotation + 50, 0.1 * teacher - 7), want)
    torch.testing.assert_close(LOSSES[name](student[order], teacher[order]), want)


@EACH
def test_rkd_float32_far_from_the_origin_is_near_float64(name):
    student, teacher = batch(32)
    # whole numbers of 1/64 with an offset that float32 holds exactly: any error is the loss's own
    student = (student * 64).round() / 64 + 1000
    want, want_gradient = value_and_gradient(LOSSES[name], student, teacher)
    got, gradient = value_and_gradient(LOSSES[name], student.float(), teacher.float())
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=0)
    torch.testing.assert_close(gradient.double(), want_gradient, rtol=0, atol=1e-3 * float(want_gradient.abs().max()))


@EACH
def test_rkd_autocast_and_half_precision_give_the_float32_value(name):
    student, teacher = (x.float() for x in batch())
    want = LOSSES[name](student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(LOSSES[name](student, teacher), want)
    widened = LOSSES[name](student.bfloat16().float(), teacher)
    assert torch.equal(LOSSES[name](student.bfloat16(), teacher), widened)


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rkd_identical_rows_have_bounded_gradients(name, dtype):
    student, teacher = (x.to(dtype) for x in batch(32))
    ordinary = value_and_gradient(LOSSES[name], student, teacher)[1].abs().max()
    student[1] = student[0]
    student[2] = student[0] * (1 + torch.finfo(dtype).eps)
    value, gradient = value_and_gradient(LOSSES[name], student, teacher)
    assert value.isfinite()
    assert gradient.abs().max() < 100 * ordinary


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 2, 12])
def test_rkd_coinciding_rows_give_zero_gradient(name, size, dtype):
    _, teacher = batch(size)
    value, gradient = value_and_gradient(LOSSES[name], torch.full((size, 5), 0.1, dtype=dtype), teacher.to(dtype))
    assert value.isfinite()
    assert torch.equal(gradient, torch.zeros_like(gradient))


@EACH
def test_rkd_student_like_its_teacher_costs_nothing(name):
    student, _ = batch()
    assert abs(float(LOSSES[name](student, 2 * student))) < 1e-12


@EACH
def test_rkd_teacher_gets_no_gradient(name):
    student, teacher = batch()
    LOSSES[name](student.requires_grad_(), teacher.requires_grad_()).backward()
    assert student.grad is not None
    assert teacher.grad is None


@EACH
def test_rkd_bad_input_is_one_clear_error(name):
    student, teacher = batch()
    with pytest.raises(ValueError, match="student 9x5 and teacher 4x7 differ in batch size"):
        LOSSES[name](student, teacher[:4])
    with pytest.raises(ValueError, match=r"student is 9x5x1; expected 2 dimensions \(B C\)"):
        LOSSES[name](student[:, :, None], teacher)
    with pytest.raises(ValueError, match=r"teacher is torch.int64"):
        LOSSES[name](student, teacher.long())
    with pytest.raises(ValueError, match="0x5, it has no elements"):
        LOSSES[name](student[:0], teacher[:0])
