"""The embedding-induced local classifier against a loop over samples."""

import math

import pytest
import torch
from torch import Tensor

from benchmark.losses import adaptive_weights, class_centers, local_classifier_loss

from .golden import LABELS, STUDENT_LOGITS, TEACHER, TEACHER_LOGITS, golden

CLASSES = 6


def batch(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Student logits, teacher embeddings, centres, labels; classes 1 and 4 are absent from the labels."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(10, CLASSES, generator=generator, dtype=torch.float64)
    embeddings = 2 * torch.randn(10, 5, generator=generator, dtype=torch.float64)
    centers = torch.randn(CLASSES, 5, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 2, 3, 5, 0, 0, 2, 5, 5, 3])
    return logits.to(dtype), embeddings.to(dtype), (centers / centers.norm(dim=1, keepdim=True)).to(dtype), labels


def oracle(logits, embeddings, centers, labels, temperature=1.0, weights=None) -> Tensor:
    present = sorted(set(labels.tolist()))
    terms = []
    for i in range(len(logits)):
        t = torch.stack([embeddings[i] @ centers[k] / temperature for k in present])
        s = torch.stack([logits[i, k] for k in present])
        p_t, p_s = (x.exp() / x.exp().sum() for x in (t, s))
        weight = 1.0 if weights is None else weights[i]
        terms.append(weight * sum(a * (a / b).log() for a, b in zip(p_t, p_s, strict=True)))
    return torch.stack(terms).mean()


@pytest.mark.parametrize("temperature", [1, 2])
@pytest.mark.parametrize("kind", ["local", "weighted"])
def test_local_classifier_golden(kind, temperature):
    classes = int(LABELS.max()) + 1
    centers = class_centers(TEACHER, LABELS, classes)
    weights = adaptive_weights(TEACHER_LOGITS) if kind == "weighted" else None
    loss = local_classifier_loss(STUDENT_LOGITS[:, :classes], TEACHER, centers, LABELS, temperature, weights)
    assert loss.item() == golden(f"gkd_stage2_{kind}_tau{temperature}")


@pytest.mark.parametrize("weights", [None, torch.linspace(0, 1, 10, dtype=torch.float64)], ids=["equal", "weighted"])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_local_classifier_equals_the_loop_in_value_and_gradient(temperature, weights):
    logits, *rest = batch()
    logits.requires_grad_()
    want = oracle(logits, *rest, temperature, weights)
    got = local_classifier_loss(logits, *rest, temperature, weights)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=0)
    (want_gradient,), (gradient,) = torch.autograd.grad(want, logits), torch.autograd.grad(got, logits)
    torch.testing.assert_close(gradient, want_gradient, rtol=1e-10, atol=1e-14)
    assert torch.equal(gradient[:, [1, 4]], torch.zeros(10, 2, dtype=torch.float64))


def test_local_classifier_gradcheck():
    logits, *rest = batch()
    assert torch.autograd.gradcheck(lambda x: local_classifier_loss(x, *rest), logits.requires_grad_())


def test_local_classifier_only_the_classes_of_the_batch_matter():
    logits, embeddings, centers, labels = batch()
    want = local_classifier_loss(logits, embeddings, centers, labels)
    logits[:, [1, 4]] = 1e4
    centers[[1, 4]] = torch.nan
    torch.testing.assert_close(local_classifier_loss(logits, embeddings, centers, labels), want)


def test_local_classifier_any_integer_labels():
    logits, embeddings, centers, labels = batch()
    assert torch.equal(class_centers(embeddings, labels.int(), 6), class_centers(embeddings, labels, 6))
    got = local_classifier_loss(logits, embeddings, centers, labels.int())
    assert torch.equal(got, local_classifier_loss(logits, embeddings, centers, labels))


def test_local_classifier_of_one_class_is_zero():
    logits, embeddings, centers, _ = batch()
    logits.requires_grad_()
    loss = local_classifier_loss(logits, embeddings, centers, torch.full((10,), 3))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert float(loss.detach()) == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_local_classifier_saturated_logits_stay_finite():
    logits, *rest = batch(torch.float32)
    logits = (1e4 * logits).requires_grad_()
    loss = local_classifier_loss(logits, *rest)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_local_classifier_autocast_gives_the_float32_value():
    inputs = batch(torch.float32)
    want = local_classifier_loss(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(local_classifier_loss(*inputs), want)


def test_class_centers_equal_the_loop():
    _, embeddings, _, labels = batch()
    centers = class_centers(embeddings, labels, CLASSES)
    for k in range(CLASSES):
        members = [embeddings[i] for i in range(10) if labels[i] == k]
        mean = sum(members) / len(members) if members else torch.zeros(5, dtype=torch.float64)
        torch.testing.assert_close(centers[k], mean / mean.norm() if members else mean)


def test_class_centers_do_not_depend_on_the_order_of_images():
    _, embeddings, _, labels = batch()
    order = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        class_centers(embeddings[order], labels[order], CLASSES), class_centers(embeddings, labels, CLASSES)
    )


def test_adaptive_weights_equal_the_loop():
    logits = batch()[0]
    doubt = [-math.log(max(math.exp(z) for z in row) / sum(math.exp(z) for z in row)) for row in logits.tolist()]
    scaled = [(d - min(doubt)) / (max(doubt) - min(doubt)) for d in doubt]
    want = torch.tensor([2 / (1 + math.exp(d)) for d in scaled], dtype=torch.float64)
    torch.testing.assert_close(adaptive_weights(logits), want)
    assert want.max() == 1
    assert float(want.min()) == pytest.approx(0.538, abs=1e-3)


@pytest.mark.parametrize("size", [1, 4])
def test_adaptive_weights_of_equal_confidence_are_one(size):
    logits = torch.tensor([[1.0, 2.0, 3.0]]).expand(size, 3)
    assert torch.equal(adaptive_weights(logits), torch.ones(size))


def test_local_classifier_bad_input_is_one_clear_error():
    logits, embeddings, centers, labels = batch()
    with pytest.raises(ValueError, match=r"labels span 0\.\.5; remap them to 0\.\.2"):
        class_centers(embeddings, labels, 3)
    with pytest.raises(ValueError, match="labels are 3; expected one per sample, 10"):
        class_centers(embeddings, labels[:3], CLASSES)
    with pytest.raises(ValueError, match=r"centers 5x5 .* expected 6x5"):
        local_classifier_loss(logits, embeddings, centers[:5], labels)
    with pytest.raises(ValueError, match=r"weights 10x1|weights is 10x1"):
        local_classifier_loss(logits, embeddings, centers, labels, weights=torch.ones(10, 1))
    with pytest.raises(ValueError, match="weights 1 and divergence 10 differ; pass one weight per sample"):
        local_classifier_loss(logits, embeddings, centers, labels, weights=torch.ones(1))
    with pytest.raises(ValueError, match="temperature is -1"):
        local_classifier_loss(logits, embeddings, centers, labels, temperature=-1)
    with pytest.raises(ValueError, match="teacher_logits is 10; expected 2"):
        adaptive_weights(logits[:, 0])
