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

    The defaults (T = 4, 0.1 and 0.9) are those of RepDistiller and mdistiller; the loss equals theirs. If the label
    spaces differ, the second term runs over the shared classes, matched by identity. Some public codes omit the T^2.
    """

    family = "logits"
    equation = r"""
    \mathcal{L} = \texttt{ce}\,\mathrm{CE}(z_s, y)
      + \texttt{kd}\,\frac{T^2}{B} \sum_{i=1}^{B} \mathrm{KL}\left(\sigma(z_t^i / T) \,\|\, \sigma(z_s^i / T)\right),
    \qquad T = \texttt{temperature}
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
        """Return cross-entropy and the tempered divergence."""
        assert teacher is not None
        s = self.settings
        terms = {}
        if s.ce:
            terms["ce"] = s.ce * losses.ce_loss(student.logits, batch.labels)
        if s.kd:
            terms["kd"] = s.kd * losses.kd_loss(*self.shared_logits(student, teacher), s.temperature)
        return terms
