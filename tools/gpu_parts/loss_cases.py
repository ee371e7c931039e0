"""Every loss with inputs that are the same on every device: first the inputs, then the loss of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

import benchmark.losses as L

B, K, C, T = 24, 6, 8, 12


class Draw:
    """Draws inputs on the CPU in float64, and brings them to a device and dtype."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._generator = torch.Generator().manual_seed(0)
        self._device, self._dtype = device, dtype
        self.leaves: list[Tensor] = []

    def fixed(self, *shape: int) -> Tensor:
        """Return normal numbers without gradient."""
        values = torch.randn(*shape, dtype=torch.float64, generator=self._generator)
        return values.to(self._device, self._dtype)

    def real(self, *shape: int) -> Tensor:
        """Return normal numbers of which the gradient is compared."""
        self.leaves.append(self.fixed(*shape).requires_grad_())
        return self.leaves[-1]

    def rows(self, count: int, width: int) -> Tensor:
        """Return unit rows without gradient."""
        return torch.nn.functional.normalize(self.fixed(count, width))

    def whole(self, *shape: int, below: int) -> Tensor:
        """Return integers below a number."""
        return torch.randint(below, shape, generator=self._generator).to(self._device)

    def labels(self) -> Tensor:
        """Return B labels, every class equally often."""
        return (torch.arange(B) % K).to(self._device)

    def columns(self) -> Tensor:
        """Return the first half of the classes."""
        return torch.arange(K // 2).to(self._device)


class Case(NamedTuple):
    """A loss and its inputs."""

    inputs: Callable[[Draw], tuple[Any, ...]]
    loss: Callable[..., Tensor]


def _crd(anchor: Tensor, teacher: Tensor, memories: tuple[Tensor, Tensor], index: Tensor, negatives: Tensor) -> Tensor:
    inputs = torch.nn.functional.normalize(anchor), teacher, *memories, index, negatives
    return L.crd_loss(*inputs, L.crd_log_normalizer(*inputs))


def _local_classifier(logits: Tensor, embeddings: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    centers, weights = L.class_centers(embeddings, labels, K), L.adaptive_weights(teacher_logits)
    return L.local_classifier_loss(logits, embeddings, centers, labels, weights=weights)


def _logits(d: Draw) -> tuple[Tensor, Tensor]:
    return d.real(B, K), d.fixed(B, K)


def _embeddings(d: Draw) -> tuple[Tensor, Tensor]:
    return d.real(B, C), d.fixed(B, T)


def _maps(d: Draw) -> tuple[Tensor, Tensor]:
    return d.real(B, C, 4, 4), d.fixed(B, T, 8, 8)


def _tuples(d: Draw) -> tuple[Tensor, Tensor, Tensor]:
    return *_embeddings(d), d.labels()


def _crd_inputs(d: Draw) -> tuple[Any, ...]:
    memories = d.rows(50, C), d.rows(50, C)
    return d.real(B, C), d.rows(B, C), memories, d.whole(B, below=50), d.whole(B, 20, below=50)


CASES: dict[str, Case] = {
    "ce_loss": Case(lambda d: (d.real(B, K), d.labels()), L.ce_loss),
    "binary_cross_entropy": Case(lambda d: (d.real(B, K), d.labels()), L.binary_cross_entropy),
    "kd_loss": Case(_logits, L.kd_loss),
    "dkd_loss": Case(lambda d: (*_logits(d), d.labels()), L.dkd_loss),
    "dist_loss": Case(_logits, L.dist_loss),
    "hint_loss": Case(lambda d: (d.real(B, C, 4, 4), d.fixed(B, C, 4, 4)), L.hint_loss),
    "attention_transfer_loss": Case(_maps, L.attention_transfer_loss),
    "similarity_preserving_loss": Case(_maps, L.similarity_preserving_loss),
    "nst_loss": Case(_maps, L.nst_loss),
    "vid_loss": Case(lambda d: (d.real(B, C, 4, 4), d.real(C), d.fixed(B, C, 4, 4)), L.vid_loss),
    "rkd_distance_loss": Case(_embeddings, L.rkd_distance_loss),
    "rkd_angle_loss": Case(_embeddings, L.rkd_angle_loss),
    "pkt_loss": Case(_embeddings, L.pkt_loss),
    "crd_loss": Case(_crd_inputs, _crd),
    "tuple_matching_loss": Case(_tuples, L.tuple_matching_loss),
    "tuple_matching_loss, cold": Case(_tuples, partial(L.tuple_matching_loss, temperature=0.01)),
    "tuple_matching_loss, triplet": Case(_tuples, partial(L.tuple_matching_loss, tuples="triplet")),
    "tuple_matching_loss, truncate": Case(_tuples, partial(L.tuple_matching_loss, tuples="truncate")),
    "local_classifier_loss": Case(
        lambda d: (d.real(B, K), d.fixed(B, T), d.fixed(B, K), d.labels()), _local_classifier
    ),
    "subset_cross_entropy": Case(
        lambda d: (d.real(B, K), d.labels() % (K // 2), d.columns()), L.subset_cross_entropy
    ),
    "sigmoid_distillation_loss": Case(
        lambda d: (d.real(B, K), d.fixed(B, K // 2), d.labels(), d.columns()), L.sigmoid_distillation_loss
    ),
    "feature_distillation_loss": Case(lambda d: (d.real(B, C), d.fixed(B, C)), L.feature_distillation_loss),
    "margin_ranking_loss": Case(lambda d: (d.real(B, K), d.labels(), d.columns()), L.margin_ranking_loss),
}  # fmt: skip

WAITING = {"tuple_matching_loss, truncate"}
"""The losses whose shapes depend on values: the host waits for them, as their documentation says."""


def value_and_gradients(case: Case, device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """Return the loss and its gradients as float64 on the CPU."""
    draw = Draw(device, dtype)
    loss = case.loss(*case.inputs(draw))
    return [x.detach().cpu().double() for x in (loss, *torch.autograd.grad(loss, draw.leaves))]
