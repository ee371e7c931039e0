"""CRD against a loop over anchors written from the paper's posterior, and the distribution of its negatives."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.losses import crd_log_normalizer, crd_loss, negative_pool, sample_negatives, update_memory_

N, M, WIDTH = 30, 7, 6


def batch(size: int = 4, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def unit(rows: int) -> Tensor:
        return F.normalize(torch.randn(rows, WIDTH, generator=generator, dtype=torch.float64), dim=1).to(dtype)

    return {
        "student": unit(size),
        "teacher": unit(size),
        "student_memory": unit(N),
        "teacher_memory": unit(N),
        "positives": torch.randint(N, (size,), generator=generator),
        "negatives": torch.randint(N, (size, M), generator=generator),
    }


def raw(anchor: Tensor, row: Tensor, temperature: float) -> float:
    return math.exp(sum(a * b for a, b in zip(anchor.tolist(), row.tolist(), strict=True)) / temperature)


def oracle(inputs: dict[str, Tensor], temperature: float) -> tuple[float, list[float]]:
    total, constants = 0.0, []
    for anchors, memory in (("student", "teacher_memory"), ("teacher", "student_memory")):
        scores = [
            [raw(anchor, inputs[memory][row], temperature) for row in (positive, *negatives)]
            for anchor, positive, negatives in zip(
                inputs[anchors], inputs["positives"].tolist(), inputs["negatives"].tolist(), strict=True
            )
        ]
        z = N * sum(map(sum, scores)) / (len(scores) * (M + 1))
        constants.append(math.log(z / N))
        for positive, *negatives in ([score / z for score in row] for row in scores):
            total -= math.log(positive / (positive + M / N)) / len(scores)
            total -= sum(math.log((M / N) / (x + M / N)) for x in negatives) / len(scores)
    return total, constants


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_crd_equals_the_loop(temperature):
    inputs = batch()
    want, constants = oracle(inputs, temperature)
    log_normalizer = crd_log_normalizer(**inputs, temperature=temperature)
    assert log_normalizer.tolist() == pytest.approx(constants, rel=1e-12)
    loss = crd_loss(**inputs, log_normalizer=log_normalizer, temperature=temperature)
    assert loss.item() == pytest.approx(want, rel=1e-12)


def test_crd_gradcheck_in_both_embeddings():
    inputs = batch(2)
    constant = crd_log_normalizer(**inputs)
    student, teacher = inputs.pop("student").requires_grad_(), inputs.pop("teacher").requires_grad_()
    assert torch.autograd.gradcheck(lambda s, t: crd_loss(s, t, **inputs, log_normalizer=constant), (student, teacher))


def test_crd_memories_get_no_gradient():
    inputs = {name: x.requires_grad_() if x.is_floating_point() else x for name, x in batch().items()}
    constant = crd_log_normalizer(**inputs)
    assert not constant.requires_grad
    crd_loss(**inputs, log_normalizer=constant).backward()
    assert inputs["student"].grad is not None
    assert inputs["student_memory"].grad is None
    assert inputs["teacher_memory"].grad is None


def test_crd_hardest_case_stays_finite_in_float32():
    inputs = batch(dtype=torch.float32)
    inputs["student"] = -inputs["teacher_memory"][inputs["positives"]]
    constant = crd_log_normalizer(**inputs, temperature=1e-3)
    student = inputs.pop("student").requires_grad_()
    loss = crd_loss(student, **inputs, log_normalizer=constant, temperature=1e-3)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.isfinite()
    assert gradient.isfinite().all()


def test_crd_autocast_gives_the_float32_value():
    inputs = batch(dtype=torch.float32)
    constant = crd_log_normalizer(**inputs)
    want = crd_loss(**inputs, log_normalizer=constant)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(crd_log_normalizer(**inputs), constant)
        assert torch.equal(crd_loss(**inputs, log_normalizer=constant), want)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"student_memory": torch.randn(N, 3)}, "student_memory 30x3 does not fit embeddings 4x6"),
        ({"negatives": torch.zeros(3, M, dtype=torch.long)}, "negatives are 3x7; expected 4 rows"),
        ({"positives": torch.full((4,), N)}, "span 30..30; remap them to 0..29"),
        ({"temperature": 0.0}, "temperature is 0"),
        ({"log_normalizer": torch.zeros(())}, "log_normalizer is scalar; expected 2"),
        ({"teacher": torch.randn(3, WIDTH)}, "differ in batch size"),
    ],
)
def test_crd_bad_input_is_one_clear_error(change, message):
    with pytest.raises(ValueError, match=message):
        crd_loss(**{**batch(), "log_normalizer": torch.zeros(2), **change})


def test_negatives_are_uniform_over_the_other_classes():
    labels = torch.tensor([2, 0, 1, 2, 2, 0, 3, 1, 2, 0])
    draws = 40_000
    drawn = sample_negatives(negative_pool(labels, 5), torch.arange(5), draws, torch.Generator().manual_seed(0))
    assert drawn.shape == (5, draws)
    for anchor in range(5):
        others = [row for row in range(10) if labels[row] != anchor]
        counts = torch.bincount(drawn[anchor], minlength=10)
        assert set(counts.nonzero().flatten().tolist()) == set(others)
        expected = draws / len(others)
        # five standard deviations of a binomial count
        assert (counts[others] - expected).abs().max() < 5 * math.sqrt(expected)


def test_negatives_follow_the_generator():
    pool = negative_pool(torch.arange(50) % 5, 5)
    first, second, other = (
        sample_negatives(pool, torch.arange(5), 20, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_crd_one_class_has_no_negatives():
    with pytest.raises(ValueError, match="all 4 labels are of one class; negatives need a second"):
        negative_pool(torch.ones(4, dtype=torch.long), 3)
    with pytest.raises(ValueError, match="labels span"):
        negative_pool(torch.arange(4), 3)


def test_memory_moves_halfway_and_stays_unit():
    inputs = batch()
    memory, rows = inputs["student_memory"].clone(), torch.tensor([3, 9, 0, 12])
    assert update_memory_(memory, rows, inputs["student"], momentum=0.5) is memory
    for row in range(N):
        old = inputs["student_memory"][row]
        mixed = (old + inputs["student"][rows.tolist().index(row)]) / 2 if row in rows.tolist() else old
        torch.testing.assert_close(memory[row], mixed / mixed.norm())


def test_memory_refuses_what_does_not_fit():
    inputs = batch()
    with pytest.raises(ValueError, match="memory 30x6 does not fit embeddings 4x5"):
        update_memory_(inputs["student_memory"], inputs["positives"], inputs["student"][:, :5])
    with pytest.raises(ValueError, match=r"momentum is 1.5"):
        update_memory_(inputs["student_memory"], inputs["positives"], inputs["student"], 1.5)
