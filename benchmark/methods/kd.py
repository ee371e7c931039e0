"""Knowledge distillation on logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt

from benchmark import losses
from benchmark.methods import METHODS, Batch, Method, Needs

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Outputs


@METHODS.register("kd")
class KD(Method):
    """Match the teacher's softened class probabilities. Hinton et al. 2015, arXiv 1503.02531.

    loss = ce * CE(z_s, y) + kd * T^2 KL(softmax(z_t / T) || softmax(z_s / T)), the divergence a mean over the batch

    Defaults (T = 4, 0.1 and 0.9) are those of RepDistiller and mdistiller, whose value this is. Where the label spaces
    differ the second term runs over the shared classes, matched by identity. Some public codes leave out the T^2.
    """

    @dataclass(frozen=True)
    class Settings:
        """Weights of the two terms and the temperature."""

        ce: Annotated[float, Ge(0)] = 0.1
        kd: Annotated[float, Ge(0)] = 0.9
        temperature: Annotated[float, Gt(0)] = 4.0

    needs = Needs(teacher=True, labels="overlap")
    tunable = ("kd",)

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Cross-entropy and the tempered divergence."""
        assert teacher is not None
        s = self.settings
        terms = {}
        if s.ce:
            terms["ce"] = s.ce * losses.ce_loss(student.logits, batch.labels)
        if s.kd:
            terms["kd"] = s.kd * losses.kd_loss(*self.shared_logits(student, teacher), s.temperature)
        return terms
