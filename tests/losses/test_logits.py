"""Losses on logits against loops over samples and classes."""

import math

import pytest
import torch
from torch import Tensor

from benchmark.losses import ce_loss, dist_loss, dkd_loss, kd_loss

from .golden import LABELS, STUDENT_LOGITS, TEACHER_LOGITS, TEMPERATURE, golden


def batch(size: int = 6, classes: int = 5, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn(size, classes, generator=generator, dtype=torch.float64) for _ in range(2))
    return student.to(dtype), teacher.to(dtype), torch.randint(classes, (size,), generator=generator)


def softmax(logits: list[float], temperature: float = 1.0) -> list[float]:
    exponentials = [math.exp(z / temperature) for z in logits]
    return [e / sum(exponentials) for e in exponentials]


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def kd_oracle(student: Tensor, teacher: Tensor, temperature: float) -> float:
    rows = zip(student.tolist(), teacher.tolist(), strict=True)
    return temperature**2 * sum(kl(softmax(t, temperature), softmax(s, temperature)) for s, t in rows) / len(student)


def test_kd_golden():
    assert kd_loss(STUDENT_LOGITS, TEACHER_LOGITS, TEMPERATURE).item() == golden("kd")


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_kd_equals_the_loop(temperature):
    student, teacher, _ = batch()
    want = kd_oracle(student, teacher, temperature)
    assert kd_loss(student, teacher, temperature).item() == pytest.approx(want, rel=1e-12)


def test_ce_equals_the_loop():
    student, _, labels = batch()
    want = -sum(math.log(softmax(row)[y]) for row, y in zip(student.tolist(), labels.tolist(), strict=True)) / 6
    assert ce_loss(student, labels).item() == pytest.approx(want, rel=1e-12)
    assert ce_loss(student, labels.int()).item() == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "alpha", "beta"), [("dkd_target", 1.0, 0.0), ("dkd_nontarget", 0.0, 1.0), ("dkd_a1_b8", 1.0, 8.0)]
)
def test_dkd_golden(name, alpha, beta):
    assert dkd_loss(STUDENT_LOGITS, TEACHER_LOGITS, LABELS, alpha, beta, TEMPERATURE).item() == golden(name)


@pytest.mark.parametrize("temperature", [1, 4])
def test_dist_golden(temperature):
    assert dist_loss(STUDENT_LOGITS, TEACHER_LOGITS, temperature).item() == golden(f"dist_tau{temperature}")


@pytest.mark.parametrize(("alpha", "beta", "temperature"), [(1.0, 8.0, 4.0), (2.0, 0.0, 1.0), (0.0, 3.0, 0.5)])
def test_dkd_equals_the_loop(alpha, beta, temperature):
    student, teacher, labels = batch()
    want = 0.0
    for s, t, y in zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True):
        p_s, p_t = softmax(s, temperature), softmax(t, temperature)
        others_s, others_t = ([e / (1 - p[y]) for k, e in enumerate(p) if k != y] for p in (p_s, p_t))
        want += alpha * kl([p_t[y], 1 - p_t[y]], [p_s[y], 1 - p_s[y]]) + beta * kl(others_t, others_s)
    assert dkd_loss(student, teacher, labels, alpha, beta, temperature).item() == pytest.approx(
        temperature**2 * want / len(student), rel=1e-12
    )


def test_dkd_with_the_teachers_weight_is_kd():
    student, teacher, labels = (x[:1] for x in batch())
    rest = 1 - torch.softmax(teacher / 4, 1)[0, labels[0]].item()
    torch.testing.assert_close(dkd_loss(student, teacher, labels, 1.0, rest, 4.0), kd_loss(student, teacher, 4.0))


def test_dkd_of_two_classes_has_only_a_target_part():
    student, teacher, labels = batch(classes=2)
    assert dkd_loss(student, teacher, labels, 0.0, 8.0, 4.0).item() == 0
    torch.testing.assert_close(dkd_loss(student, teacher, labels, 1.0, 8.0, 4.0), kd_loss(student, teacher, 4.0))


def test_dkd_refuses_one_class():
    student, teacher, _ = batch(classes=1)
    with pytest.raises(ValueError, match="one class"):
        dkd_loss(student, teacher, torch.zeros(6, dtype=torch.long))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_dist_equals_the_loop(temperature):
    student, teacher, _ = batch()
    p_s, p_t = ([softmax(row, temperature) for row in logits.tolist()] for logits in (student, teacher))
    rows = [correlation(s, t) for s, t in zip(p_s, p_t, strict=True)]
    columns = [correlation(s, t) for s, t in zip(zip(*p_s, strict=True), zip(*p_t, strict=True), strict=True)]
    want = temperature**2 * (2 - sum(rows) / len(rows) - sum(columns) / len(columns))
    # the authors' 1e-8 beside the product of norms is left out of the oracle
    assert dist_loss(student, teacher, temperature).item() == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dist_of_flat_logits_has_a_bounded_gradient(dtype):
    _, teacher, _ = batch(dtype=dtype)
    student = torch.full((6, 5), 0.3, dtype=dtype, requires_grad=True)
    loss = dist_loss(student, teacher, 4.0)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(32)
    assert gradient.abs().max() < 1


def correlation(a, b) -> float:
    a, b = [x - sum(a) / len(a) for x in a], [x - sum(b) / len(b) for x in b]
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


PAIRED = {
    "kd": lambda s, t, y: kd_loss(s, t, 4.0),
    "dkd": lambda s, t, y: dkd_loss(s, t, y, 1.0, 8.0, 4.0),
    "dist": lambda s, t, y: dist_loss(s, t, 4.0),
}
ALL = {"ce": lambda s, t, y: ce_loss(s, y), **PAIRED}


@pytest.mark.parametrize("name", ALL)
def test_logit_losses_pass_gradcheck(name):
    student, teacher, labels = batch()
    assert torch.autograd.gradcheck(lambda x: ALL[name](x, teacher, labels), student.requires_grad_())


@pytest.mark.parametrize("name", ALL)
def test_logit_losses_are_invariant_to_shift_and_order(name):
    student, teacher, labels = batch()
    want = ALL[name](student, teacher, labels)
    samples, classes = torch.tensor([3, 0, 5, 1, 4, 2]), torch.tensor([4, 2, 0, 1, 3])
    torch.testing.assert_close(ALL[name](student + 100, teacher - 50, labels), want)
    torch.testing.assert_close(ALL[name](student[samples], teacher[samples], labels[samples]), want)
    renamed = torch.argsort(classes)[labels]
    torch.testing.assert_close(ALL[name](student[:, classes], teacher[:, classes], renamed), want)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("size", [1, 6])
def test_logit_losses_are_finite_on_saturated_logits(name, size):
    student, teacher, labels = batch(size, dtype=torch.float32)
    student = (1e4 * student).requires_grad_()
    loss = ALL[name](student, 1e4 * teacher, labels)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", ALL)
def test_logit_losses_under_autocast_give_the_float32_value(name):
    student, teacher, labels = batch(dtype=torch.float32)
    want = ALL[name](student, teacher, labels)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ALL[name](student, teacher, labels), want)
        assert ALL[name](student.bfloat16(), teacher.bfloat16(), labels).dtype == torch.float32


@pytest.mark.parametrize("name", PAIRED)
def test_logit_losses_of_equal_networks_are_zero(name):
    student, _, labels = batch()
    student.requires_grad_()
    loss = PAIRED[name](student, student.detach().clone(), labels)
    (gradient,) = torch.autograd.grad(loss, student)
    # dist keeps 16 * 1e-8 over the product of two norms, of the authors' constant
    assert abs(float(loss.detach())) < (1e-4 if name == "dist" else 1e-12)
    assert gradient.abs().max() < (1e-4 if name == "dist" else 1e-12)


@pytest.mark.parametrize("name", PAIRED)
def test_logit_losses_give_the_teacher_no_gradient(name):
    student, teacher, labels = batch()
    PAIRED[name](student.requires_grad_(), teacher.requires_grad_(), labels).backward()
    assert student.grad is not None
    assert teacher.grad is None


@pytest.mark.parametrize("name", PAIRED)
def test_logit_losses_refuse_different_label_spaces(name):
    student, teacher, labels = batch()
    with pytest.raises(ValueError, match=r"student_logits 6x5 and teacher_logits 6x4 differ; select the classes"):
        PAIRED[name](student, teacher[:, :4], labels)
    with pytest.raises(ValueError, match="differ in batch size"):
        PAIRED[name](student, teacher[:4], labels)
    with pytest.raises(ValueError, match=r"teacher_logits is torch.int64"):
        PAIRED[name](student, teacher.long(), labels)


def test_logit_losses_refuse_bad_values_in_one_line():
    student, teacher, labels = batch()
    with pytest.raises(ValueError, match="temperature is 0"):
        kd_loss(student, teacher, 0.0)
    with pytest.raises(ValueError, match="labels span"):
        ce_loss(student, labels + 5)
    with pytest.raises(ValueError, match="labels are 6x1"):
        ce_loss(student, labels[:, None])
