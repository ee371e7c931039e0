"""Distillation from a stronger teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt

from benchmark import losses
from benchmark.methods import METHODS, Batch, Method, Needs

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Outputs


@METHODS.register("dist")
class DIST(Method):
    """Match the correlations of class probabilities, not their values. Huang et al., NeurIPS 2022, arXiv 2205.10536.

    loss = ce * CE(z_s, y) + dist * tau^2 [(1 - mean_b rho(p_s[b], p_t[b])) + (1 - mean_k rho(p_s[:, k], p_t[:, k]))],
    rho = Pearson's correlation, p = softmax(z / tau)

    The correlations are between classes of an image, and between images for a class.

    Defaults (1, 2, tau = 4) are the authors' for CIFAR-100, and this is their code's value. Where the label spaces
    differ the second term runs over the shared classes, matched by identity, which the paper does not treat.
    """

    @dataclass(frozen=True)
    class Settings:
        """Weights of the two terms and the temperature."""

        ce: Annotated[float, Ge(0)] = 1.0
        dist: Annotated[float, Ge(0)] = 2.0
        temperature: Annotated[float, Gt(0)] = 4.0

    needs = Needs(teacher=True, labels="overlap")
    tunable = ("dist",)

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Cross-entropy and the two correlations."""
        assert teacher is not None
        s = self.settings
        terms = {}
        if s.ce:
            terms["ce"] = s.ce * losses.ce_loss(student.logits, batch.labels)
        if s.dist:
            terms["dist"] = s.dist * losses.dist_loss(*self.shared_logits(student, teacher), s.temperature)
        return terms
