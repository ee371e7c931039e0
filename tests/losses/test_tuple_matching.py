"""Relationship matching against a loop over tuples written from the papers' definition."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmark.losses import tuple_matching, tuple_matching_loss
from benchmark.losses.tuple_matching import _by_prefix_sums, _by_softmax, _mine, _positives

from .golden import LABELS, STUDENT, TEACHER, TUPLES, golden

FORMS = ("mask", "truncate", "triplet")


def batch(size: int = 24, classes: int = 4, seed: int = 0, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(size, 6, generator=generator, dtype=torch.float64)
    teacher = torch.randn(size, 9, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (size,), generator=generator)
    return student.to(dtype), teacher.to(dtype), labels


def distance(x: Tensor, i: int, j: int) -> Tensor:
    return (x[i] / x[i].norm() - x[j] / x[j].norm()).norm()


def mined(student: Tensor, labels: Tensor, margin: float) -> list[tuple[int, int, list[int]]]:
    """(anchor, positive, semi-hard negatives in ascending order), those without a negative included."""
    found = []
    size = len(labels)
    for a in range(size):
        for p in range(size):
            if a != p and labels[a] == labels[p]:
                near = float(distance(student.detach(), a, p))
                others = [n for n in range(size) if labels[n] != labels[a]]
                far = [float(distance(student.detach(), a, n)) for n in others]
                found.append((a, p, [n for n, d in zip(others, far, strict=True) if 0 < d - near <= margin]))
    return found


def oracle(student, teacher, labels, temperature=4.0, margin=0.2, tuples="mask", weight=1000.0) -> Tensor:
    terms = []
    candidates = mined(student, labels, margin)
    if tuples == "truncate":
        fewest = min((len(ns) for _, _, ns in candidates if ns), default=0)
        candidates = [(a, p, ns[:fewest]) for a, p, ns in candidates]
    for a, p, negatives in candidates:
        if tuples == "triplet":
            others = [n for n in range(len(labels)) if labels[n] != labels[a]]
            others = sorted((float(distance(student.detach(), a, n)), n) for n in others)
            farther = [n for d, n in others if d > float(distance(student.detach(), a, p))]
            negatives = farther[:1] or [n for _, n in others[-1:]]
        if not negatives:
            continue
        z_s, z_t = (
            torch.stack([-distance(x, a, j) / temperature for j in (p, *negatives)]) for x in (student, teacher)
        )
        log_s, log_t = z_s - z_s.logsumexp(0), z_t - z_t.logsumexp(0)
        terms.append((log_t.exp() * (log_t - log_s)).sum())
    if not terms:
        return student.sum() * 0
    # the released triplet code averages over both outcomes of every Bernoulli too
    return weight * torch.stack(terms).mean() / (2 if tuples == "triplet" else 1)


def value_and_gradient(loss, student, *args, **kwargs):
    student = student.clone().requires_grad_()
    value = loss(student, *args, **kwargs)
    (gradient,) = torch.autograd.grad(value, student)
    return value.detach(), gradient


@pytest.mark.parametrize("temperature", [4, 1])
@pytest.mark.parametrize("form", ["mask", "truncate"])
def test_tuple_matching_golden(form, temperature):
    loss = tuple_matching_loss(STUDENT, TEACHER, LABELS, temperature=temperature, tuples=form)
    assert loss.item() == golden(f"gkd_stage1_{form}_tau{temperature}")


def test_tuple_matching_golden_tuples_are_those_of_the_oracle():
    sizes = [len(negatives) for _, _, negatives in mined(STUDENT, LABELS, 0.2) if negatives]
    assert (len(sizes), min(sizes), max(sizes)) == (TUPLES["count"], TUPLES["min_negatives"], TUPLES["max_negatives"])


@pytest.mark.parametrize("temperature", [1e-3, 0.05, 0.1999, 0.2, 1.0, 4.0, 100.0])
@pytest.mark.parametrize("form", FORMS)
def test_tuple_matching_equals_the_loop_in_value_and_gradient(form, temperature):
    inputs = batch()
    want, want_gradient = value_and_gradient(oracle, *inputs, temperature=temperature, tuples=form)
    got, gradient = value_and_gradient(tuple_matching_loss, *inputs, temperature=temperature, tuples=form)
    assert want > 0
    torch.testing.assert_close(got, want, rtol=1e-9, atol=0)
    torch.testing.assert_close(gradient, want_gradient, rtol=1e-8, atol=1e-9 * float(want_gradient.abs().max()))


@pytest.mark.parametrize("temperature", [0.05, 1.0, 4.0])
@pytest.mark.parametrize("form", FORMS)
def test_tuple_matching_float32_is_near_the_float64_loop(form, temperature):
    student, teacher, labels = batch(dtype=torch.float32)
    want, want_gradient = value_and_gradient(
        oracle, student.double(), teacher.double(), labels, temperature, tuples=form
    )
    got, gradient = value_and_gradient(tuple_matching_loss, student, teacher, labels, temperature, tuples=form)
    assert got.dtype == gradient.dtype == torch.float32
    torch.testing.assert_close(got.double(), want, rtol=2e-4, atol=0)
    torch.testing.assert_close(gradient.double(), want_gradient, rtol=0, atol=1e-3 * float(want_gradient.abs().max()))


@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(1, 12),
    classes=st.integers(1, 5),
    seed=st.integers(0, 10_000),
    margin=st.sampled_from([1e-3, 0.2, 0.7, 10.0, math.inf]),
    form=st.sampled_from(FORMS),
)
def test_tuple_matching_any_batch_equals_the_loop(size, classes, seed, margin, form):
    inputs = batch(size, classes, seed)
    want, want_gradient = value_and_gradient(oracle, *inputs, margin=margin, tuples=form)
    got, gradient = value_and_gradient(tuple_matching_loss, *inputs, margin=margin, tuples=form)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradient, want_gradient, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("form", FORMS)
def test_tuple_matching_gradcheck(form):
    student, teacher, labels = batch(10, 3)
    assert torch.autograd.gradcheck(
        lambda x: tuple_matching_loss(x, teacher, labels, temperature=0.5, tuples=form, weight=1.0),
        student.requires_grad_(),
    )


@pytest.mark.parametrize("form", FORMS)
def test_tuple_matching_blocks_do_not_change_the_result(form, monkeypatch):
    inputs = batch()
    want, want_gradient = value_and_gradient(tuple_matching_loss, *inputs, tuples=form)
    monkeypatch.setattr(tuple_matching, "_BLOCK", 5 * 24)
    got, gradient = value_and_gradient(tuple_matching_loss, *inputs, tuples=form)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, want_gradient, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_tuple_matching_layout_without_host_wait_gives_the_same(form, monkeypatch):
    inputs = batch()
    want, want_gradient = value_and_gradient(tuple_matching_loss, *inputs, tuples=form)
    monkeypatch.setattr(tuple_matching, "_positives", lambda labels, dense: _positives(labels, dense=True))
    got, gradient = value_and_gradient(tuple_matching_loss, *inputs, tuples=form)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, want_gradient, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dense", [True, False])
def test_tuple_matching_positives_are_the_others_of_the_class(dense):
    labels = torch.tensor([7, -2, 7, 5, 7, -2])
    columns, valid = _positives(labels, dense)
    for anchor in range(6):
        want = {other for other in range(6) if other != anchor and labels[other] == labels[anchor]}
        assert sorted(columns[anchor][valid[anchor]].tolist()) == sorted(want)


def test_tuple_matching_prefix_sums_keep_their_digits_down_to_the_coldest_temperature():
    generator = torch.Generator().manual_seed(3)
    distances, other = (2 * torch.rand(64, 64, generator=generator, dtype=torch.float64) for _ in range(2))
    labels = torch.randint(8, (64,), generator=generator)
    (_, found), *rest = _mine(distances, labels, 0.2)
    assert not rest
    z = -distances / tuple_matching._COLDEST_PREFIX, -other / tuple_matching._COLDEST_PREFIX
    want = _by_softmax(z[0].clone(), z[1].clone(), found, True)
    got = _by_prefix_sums(z[0].clone(), z[1].clone(), found, True)
    chosen = want[1]
    assert torch.equal(got[1], chosen)
    torch.testing.assert_close(got[0][chosen], want[0][chosen], rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(got[2], want[2], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_tuple_matching_invariant_to_scale_and_order(form):
    student, teacher, labels = batch()
    want = tuple_matching_loss(student, teacher, labels, tuples=form)
    torch.testing.assert_close(tuple_matching_loss(3 * student, 0.1 * teacher, labels, tuples=form), want)
    torch.testing.assert_close(tuple_matching_loss(student, teacher, 10 - labels, tuples=form), want)
    if form != "truncate":  # which negatives come first depends on the order there
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
        shuffled = tuple_matching_loss(student[order], teacher[order], labels[order], tuples=form)
        torch.testing.assert_close(shuffled, want)


@pytest.mark.parametrize("form", FORMS)
def test_tuple_matching_of_equal_networks_has_zero_value_and_gradient(form):
    student, _, labels = batch()
    loss, gradient = value_and_gradient(tuple_matching_loss, student, student, labels, tuples=form)
    assert abs(float(loss)) < 1e-9
    assert gradient.abs().max() < 1e-9


def test_tuple_matching_weight_scales_the_value():
    inputs = batch()
    torch.testing.assert_close(tuple_matching_loss(*inputs, weight=5.0), tuple_matching_loss(*inputs) / 200)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3]], ids=["one class", "no positive"])
def test_tuple_matching_batch_without_a_tuple_is_an_exact_zero_in_the_graph(form, labels):
    student, teacher, _ = batch(4)
    loss, gradient = value_and_gradient(tuple_matching_loss, student, teacher, torch.tensor(labels), tuples=form)
    assert float(loss) == 0
    assert torch.equal(gradient, torch.zeros_like(student))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tuple_matching_of_one_sample_is_zero(form, dtype):
    student, teacher, labels = batch(1, dtype=dtype)
    loss, gradient = value_and_gradient(tuple_matching_loss, student, teacher, labels, tuples=form)
    assert float(loss) == 0
    assert torch.equal(gradient, torch.zeros_like(student))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tuple_matching_identical_and_zero_rows_have_bounded_gradients(form, dtype):
    student, teacher, labels = batch(dtype=dtype)
    ordinary = value_and_gradient(tuple_matching_loss, student, teacher, labels, tuples=form)[1].abs().max()
    student[1] = student[0]
    student[2] = 2 * student[0]
    student[3] = 0
    loss, gradient = value_and_gradient(tuple_matching_loss, student, teacher, labels, tuples=form)
    assert loss.isfinite()
    assert gradient.abs().max() < 100 * ordinary


@pytest.mark.parametrize("form", FORMS)
def test_tuple_matching_collapsed_student_has_a_finite_gradient(form):
    _, teacher, labels = batch(dtype=torch.float32)
    collapsed = torch.full((len(labels), 6), 0.1)
    loss, gradient = value_and_gradient(tuple_matching_loss, collapsed, teacher, labels, tuples=form)
    assert loss.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [0, 1, 2, 3]], ids=["tuples", "no tuple"])
def test_tuple_matching_of_a_diverged_student_is_nan(form, labels):
    student, teacher, _ = batch(4)
    student[1, 0] = torch.nan
    assert tuple_matching_loss(student, teacher, torch.tensor(labels), tuples=form).isnan()


def test_tuple_matching_half_precision_and_autocast_give_the_float32_value():
    student, teacher, labels = batch(dtype=torch.float32)
    want = tuple_matching_loss(student, teacher, labels)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tuple_matching_loss(student, teacher, labels), want)
    half = tuple_matching_loss(student.bfloat16(), teacher, labels)
    assert half.dtype == torch.float32
    assert torch.equal(half, tuple_matching_loss(student.bfloat16().float(), teacher, labels))


def test_tuple_matching_teacher_gets_no_gradient():
    student, teacher, labels = batch()
    tuple_matching_loss(student.requires_grad_(), teacher.requires_grad_(), labels).backward()
    assert student.grad is not None
    assert teacher.grad is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tuples": "masked"}, "'masked'.*mask, truncate, triplet"),
        ({"temperature": 0.0}, "temperature is 0"),
        ({"margin": -0.1}, "margin is -0.1"),
        ({"labels": torch.zeros(3, dtype=torch.long)}, "labels are 3; expected one per sample, 24"),
        ({"labels": torch.zeros(24)}, "labels are torch.float"),
        ({"teacher": torch.randn(5, 9)}, "24x6 and teacher 5x9 differ in batch size"),
        ({"teacher": torch.randn(24, 9, 2, 2)}, r"teacher is 24x9x2x2; expected 2 dimensions \(B C\)"),
        ({"student": torch.ones(24, 6, dtype=torch.long)}, "student is torch.int64"),
        ({"student": torch.ones(0, 6), "teacher": torch.ones(0, 6), "labels": torch.ones(0, dtype=torch.long)}, "0x6"),
    ],
)
def test_tuple_matching_bad_input_is_one_clear_error(change, message):
    student, teacher, labels = batch()
    with pytest.raises(ValueError, match=message):
        tuple_matching_loss(**{"student": student, "teacher": teacher, "labels": labels, **change})
