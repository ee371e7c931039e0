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

    Defaults (alpha 1, beta 8, T = 4, warm-up over 20 of 240 epochs) are those of mdistiller, the authors' code, whose
    value this is wherever that is finite: it takes the logarithm of a softmax, which reaches infinity. Its warm-up
    rises by the epoch, from 1 / 20; this one by the step, from 0.
    """

    @dataclass(frozen=True)
    class Settings:
        """Weights of the two parts, temperature, and the share of training over which they warm up."""

        alpha: Annotated[float, Ge(0)] = 1.0
        beta: Annotated[float, Ge(0)] = 8.0
        temperature: Annotated[float, Gt(0)] = 4.0
        warmup: Annotated[float, Ge(0), Le(1)] = 20 / 240

    needs = Needs(teacher=True, labels="same")
    tunable = ("beta",)

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Cross-entropy and the two parts together."""
        assert teacher is not None
        s = self.settings
        terms = {"ce": losses.ce_loss(student.logits, batch.labels)}
        weight = min(1.0, batch.progress / s.warmup) if s.warmup else 1.0
        if weight and (s.alpha or s.beta):
            ours, theirs = self.shared_logits(student, teacher)
            terms["dkd"] = weight * losses.dkd_loss(ours, theirs, batch.labels, s.alpha, s.beta, s.temperature)
        return terms
