"""Losses on feature maps against loops over positions, channels and samples."""

import math

import pytest
import torch
from torch import Tensor

from benchmark.losses import attention_transfer_loss, hint_loss, nst_loss, similarity_preserving_loss

from .golden import STUDENT_MAP, TEACHER_MAP, golden

LOSSES = {
    "hint": hint_loss,
    "at": attention_transfer_loss,
    "sp": similarity_preserving_loss,
    "nst": nst_loss,
}
EACH = pytest.mark.parametrize("name", LOSSES)


def batch(size: int = 3, side: int = 4, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(size, 5, side, side, generator=generator, dtype=torch.float64)
    teacher = torch.randn(size, 5, side, side, generator=generator, dtype=torch.float64)
    return student.to(dtype), teacher.to(dtype)


def normalized(values: list[float]) -> list[float]:
    norm = math.hypot(*values)
    return [v / norm for v in values]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def mean_square(a: list[float], b: list[float]) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a)


def attention(sample: list[list[list[float]]]) -> list[float]:
    height, width = len(sample[0]), len(sample[0][0])
    return normalized([sum(c[i][j] ** 2 for c in sample) / len(sample) for i in range(height) for j in range(width)])


def at_oracle(student: Tensor, teacher: Tensor) -> float:
    pairs = zip(student.tolist(), teacher.tolist(), strict=True)
    return sum(mean_square(attention(s), attention(t)) for s, t in pairs) / len(student)


def sp_oracle(student: Tensor, teacher: Tensor) -> float:
    def rows(x: Tensor) -> list[list[float]]:
        flat = x.flatten(1).tolist()
        return [normalized([dot(a, b) for b in flat]) for a in flat]

    return sum(mean_square(s, t) for s, t in zip(rows(student), rows(teacher), strict=True)) / len(student)


def nst_oracle(student: Tensor, teacher: Tensor) -> float:
    def kernel(a: list[list[float]], b: list[list[float]]) -> float:
        return sum(dot(x, y) ** 2 for x in a for y in b) / len(a) / len(b)

    total = 0.0
    for s, t in zip(student.flatten(2).tolist(), teacher.flatten(2).tolist(), strict=True):
        s, t = [normalized(c) for c in s], [normalized(c) for c in t]
        total += kernel(t, t) + kernel(s, s) - 2 * kernel(s, t)
    return total / len(student)


ORACLES = {
    "hint": lambda s, t: mean_square(s.flatten().tolist(), t.flatten().tolist()),
    "at": at_oracle,
    "sp": sp_oracle,
    "nst": nst_oracle,
}


@pytest.mark.parametrize(
    ("name", "loss"), [("attention_transfer", LOSSES["at"]), ("similarity_preserving", LOSSES["sp"])]
)
def test_map_loss_golden(name, loss):
    assert loss(STUDENT_MAP, TEACHER_MAP).item() == golden(name)


@EACH
def test_map_loss_equals_the_loop(name):
    student, teacher = batch()
    assert LOSSES[name](student, teacher).item() == pytest.approx(ORACLES[name](student, teacher), rel=1e-12)


@pytest.mark.parametrize("name", ["at", "sp", "nst"])
def test_map_loss_channels_may_differ(name):
    student, teacher = batch()
    want = ORACLES[name](student[:, :2], teacher)
    assert LOSSES[name](student[:, :2], teacher).item() == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("name", ["at", "nst"])
def test_map_loss_larger_map_is_averaged_down(name):
    student, teacher = batch()
    pooled = teacher.unflatten(2, (2, 2)).unflatten(4, (2, 2)).mean((3, 5))
    half = student[:, :, :2, :2]
    assert LOSSES[name](half, teacher).item() == pytest.approx(ORACLES[name](half, pooled), rel=1e-12)
    assert LOSSES[name](teacher, half).item() == pytest.approx(ORACLES[name](pooled, half), rel=1e-12)


@EACH
def test_map_loss_gradcheck(name):
    student, teacher = batch(side=3)
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, teacher), student.requires_grad_())


@EACH
def test_map_loss_invariances(name):
    student, teacher = batch()
    want = LOSSES[name](student, teacher)
    samples, channels = torch.tensor([2, 0, 1]), torch.tensor([3, 1, 0, 4, 2])
    torch.testing.assert_close(LOSSES[name](student[samples], teacher[samples]), want)
    torch.testing.assert_close(LOSSES[name](student[:, channels], teacher[:, channels]), want)
    torch.testing.assert_close(LOSSES[name](student.flip(3), teacher.flip(3)), want)
    if name != "hint":
        torch.testing.assert_close(LOSSES[name](3 * student, 0.1 * teacher), want)


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_map_loss_zero_and_identical_samples_have_bounded_gradients(name, dtype):
    student, teacher = batch(dtype=dtype)
    student[0] = 0
    student[1] = student[2]
    teacher[0, 1] = 0
    student.requires_grad_()
    loss = LOSSES[name](student, teacher)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.isfinite()
    assert gradient.abs().max() < 100


@EACH
def test_map_loss_one_sample_is_finite(name):
    student, teacher = batch(1)
    student.requires_grad_()
    loss = LOSSES[name](student, teacher)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    if name == "sp":
        assert loss.item() == 0
        assert gradient.abs().max() < 1e-15


@EACH
def test_map_loss_autocast_gives_the_float32_value(name):
    student, teacher = batch(dtype=torch.float32)
    want = LOSSES[name](student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(LOSSES[name](student, teacher), want)
    assert torch.equal(LOSSES[name](student.half(), teacher), LOSSES[name](student.half().float(), teacher))


@EACH
def test_map_loss_teacher_gets_no_gradient_and_itself_costs_nothing(name):
    student, teacher = batch()
    LOSSES[name](student.requires_grad_(), teacher.requires_grad_()).backward()
    assert student.grad is not None
    assert student.grad.abs().max() > 0
    assert teacher.grad is None
    assert abs(float(LOSSES[name](teacher.detach(), teacher))) < 1e-12


@EACH
def test_map_loss_bad_input_is_one_clear_error(name):
    student, teacher = batch()
    with pytest.raises(ValueError, match="student_map 3x5x4x4 and teacher_map 2x5x4x4 differ in batch size"):
        LOSSES[name](student, teacher[:2])
    with pytest.raises(ValueError, match=r"teacher_map is torch.int64"):
        LOSSES[name](student, teacher.long())
    with pytest.raises(ValueError, match=r"teacher_map is 3x5x4; expected 4 dimensions \(B C H W\)"):
        LOSSES[name](student, teacher[..., 0])


def test_hint_refuses_other_shapes():
    student, teacher = batch()
    with pytest.raises(ValueError, match="student_map 3x5x4x4 and teacher_map 3x4x4x4 differ; put a regressor"):
        hint_loss(student, teacher[:, :4])
