"""Decoupled knowledge distillation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Le

from benchmark import losses
from benchmark.methods import METHODS, Batch, Method, Needs

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Outputs


@METHODS.register("dkd")
class DKD(Method):
    """Distil target and non-target classes apart. Zhao et al., CVPR 2022, arXiv 2203.08679.

    loss = CE(z_s, y) + min(1, progress / warmup) * T^2 [alpha KL(b_t || b_s) + beta KL(q_t || q_s)], b = [p_y, 1 - p_y]
    and q the softmax over the other classes, both at temperature T; mean over the batch

    The defaults (alpha 1, beta 8, T = 4, warm-up over 20 of 240 epochs) are those of mdistiller, the authors' code. The
    loss equals theirs if that is finite; the logarithm of their softmax can be infinite. Their warm-up rises by the
    epoch, from 1 / 20; this one rises by the step, from 0.
    """

    family = "logits"
    equation = r"""
    \mathcal{L} = \mathrm{CE}(z_s, y)
      + \min\left(1, \frac{\mathrm{progress}}{\texttt{warmup}}\right) \frac{T^2}{B} \sum_{i=1}^{B}
        \left[ \texttt{alpha}\,\mathrm{KL}(b_t^i \,\|\, b_s^i) + \texttt{beta}\,\mathrm{KL}(q_t^i \,\|\, q_s^i) \right]

    b = \left(p_y,\ 1 - p_y\right), \qquad p = \sigma(z / T), \qquad q = \sigma\left((z_k / T)_{k \neq y}\right),
    \qquad T = \texttt{temperature}
    """

    @dataclass(frozen=True)
    class Settings:
        """Weights of the two parts, temperature, and the share of training that the warm-up takes."""

        alpha: Annotated[float, Ge(0)] = 1.0
        beta: Annotated[float, Ge(0)] = 8.0
        temperature: Annotated[float, Gt(0)] = 4.0
        warmup: Annotated[float, Ge(0), Le(1)] = 20 / 240

    needs = Needs(teacher=True, labels="same")
    tunable = ("beta",)

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Return cross-entropy and both parts as one term."""
        assert teacher is not None
        s = self.settings
        terms = {"ce": losses.ce_loss(student.logits, batch.labels)}
        weight = min(1.0, batch.progress / s.warmup) if s.warmup else 1.0
        if weight and (s.alpha or s.beta):
            logits = self.shared_logits(student, teacher)
            terms["dkd"] = weight * losses.dkd_loss(*logits, batch.labels, s.alpha, s.beta, s.temperature)
        return terms
