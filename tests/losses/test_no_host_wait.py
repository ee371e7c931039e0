"""On an accelerator no loss makes the host wait: shapes and control flow never depend on values.

Fake tensors have a device and a shape but no values, so reading a value raises; no accelerator is needed.
"""

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode

import benchmark.losses as L


def real(*shape: int) -> Tensor:
    return torch.empty(*shape, device="cuda", requires_grad=True)


def whole(*shape: int) -> Tensor:
    return torch.empty(*shape, dtype=torch.long, device="cuda")


def crd() -> Tensor:
    pool = L.NegativePool(whole(50), whole(6), whole(6))
    negatives = L.sample_negatives(pool, whole(12), 20)
    inputs = real(12, 8), real(12, 8), real(50, 8), real(50, 8), whole(12), negatives
    L.update_memory_(torch.empty(50, 8, device="cuda"), whole(12), real(12, 8))
    return L.crd_loss(*inputs, L.crd_log_normalizer(*inputs))


def local_classifier() -> Tensor:
    centers = L.class_centers(real(12, 7), whole(12), 5)
    weights = L.adaptive_weights(real(12, 5))
    return L.local_classifier_loss(real(12, 5), real(12, 7), centers, whole(12), weights=weights)


LOSSES = {
    "ce": lambda: L.ce_loss(real(12, 5), whole(12)),
    "kd": lambda: L.kd_loss(real(12, 5), real(12, 5)),
    "dkd": lambda: L.dkd_loss(real(12, 5), real(12, 5), whole(12)),
    "dist": lambda: L.dist_loss(real(12, 5), real(12, 5)),
    "hint": lambda: L.hint_loss(real(12, 5, 4, 4), real(12, 5, 4, 4)),
    "at": lambda: L.attention_transfer_loss(real(12, 5, 4, 4), real(12, 7, 8, 8)),
    "sp": lambda: L.similarity_preserving_loss(real(12, 5, 4, 4), real(12, 7, 8, 8)),
    "nst": lambda: L.nst_loss(real(12, 5, 4, 4), real(12, 7, 8, 8)),
    "vid": lambda: L.vid_loss(real(12, 5, 4, 4), real(5), real(12, 5, 4, 4)),
    "rkd distance": lambda: L.rkd_distance_loss(real(12, 5), real(12, 7)),
    "rkd angle": lambda: L.rkd_angle_loss(real(12, 5), real(12, 7)),
    "pkt": lambda: L.pkt_loss(real(12, 5), real(12, 7)),
    "crd": crd,
    "tuples": lambda: L.tuple_matching_loss(real(12, 5), real(12, 7), whole(12)),
    "cold tuples": lambda: L.tuple_matching_loss(real(12, 5), real(12, 7), whole(12), temperature=0.01),
    "triplets": lambda: L.tuple_matching_loss(real(12, 5), real(12, 7), whole(12), tuples="triplet"),
    "local classifier": local_classifier,
    "subset": lambda: L.subset_cross_entropy(real(12, 5), whole(12), whole(3)),
    "sigmoid": lambda: L.sigmoid_distillation_loss(real(12, 5), real(12, 3), whole(12), whole(3)),
    "features": lambda: L.feature_distillation_loss(real(12, 5), real(12, 5)),
    "ranking": lambda: L.margin_ranking_loss(real(12, 5), whole(12), whole(3)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_read_no_value_from_the_device(name):
    with FakeTensorMode():
        loss = LOSSES[name]()
        assert loss.requires_grad
        assert loss.shape == ()


def test_truncated_tuples_are_the_documented_exception():
    with FakeTensorMode(), pytest.raises(DynamicOutputShapeException):
        L.tuple_matching_loss(real(12, 5), real(12, 7), whole(12), tuples="truncate")
