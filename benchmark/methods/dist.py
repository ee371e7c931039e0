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

    The correlations are between the classes of an image and between the images of a batch for a class.

    The defaults (1, 2, tau = 4) are the authors' for CIFAR-100, and the loss equals that of their code. If the label
    spaces differ, the second term runs over the shared classes, matched by identity; the paper does not treat this
    case.
    """

    family = "logits"
    equation = r"""
    \mathcal{L} = \texttt{ce}\,\mathrm{CE}(z_s, y)
      + \texttt{dist}\,T^2 \left[ 2 - \frac{1}{B} \sum_{i=1}^{B} \rho(p_s^{i \cdot}, p_t^{i \cdot})
      - \frac{1}{K} \sum_{k=1}^{K} \rho(p_s^{\cdot k}, p_t^{\cdot k}) \right]

    p^{ik} = \sigma(z^i / T)_k, \qquad \rho\ \text{Pearson's correlation}, \qquad T = \texttt{temperature}
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
        """Return cross-entropy and both correlations as one term."""
        assert teacher is not None
        s = self.settings
        terms = {}
        if s.ce:
            terms["ce"] = s.ce * losses.ce_loss(student.logits, batch.labels)
        if s.dist:
            terms["dist"] = s.dist * losses.dist_loss(*self.shared_logits(student, teacher), s.temperature)
        return terms
