"""Fine-tuning held near its starting point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from benchmark import losses
from benchmark.methods import METHODS, Batch, Method, Needs

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Network, Outputs


@METHODS.register("l2sp")
class L2SP(Method):
    """Fine-tune from the teacher's weights and stay near them. Li, Grandvalet, Davoine, ICML 2018, arXiv 1802.01483.

    loss = CE(z_s, y) + start / 2 * ||w - w_0||^2 + head / 2 * ||v||^2

    w are the backbone's parameters, w_0 the teacher's, and v the head's. Student and teacher must have the same
    backbone.

    The defaults (0.01, 0.01) and the penalty are those of Transfer-Learning-Library: w includes the parameters of batch
    normalisation. There the penalty replaces weight decay; here the run's weight decay, the same for every method,
    remains. There a new head is drawn; here it starts as in ``finetune``.
    """

    family = "weights"
    equation = r"""
    \mathcal{L} = \mathrm{CE}(z_s, y)
      + \frac{\texttt{start}}{2} \lVert w - w_0 \rVert_2^2 + \frac{\texttt{head}}{2} \lVert v \rVert_2^2
    """

    @dataclass(frozen=True)
    class Settings:
        """Weights of the two penalties; 0 turns a penalty off."""

        start: Annotated[float, Ge(0)] = 0.01
        head: Annotated[float, Ge(0)] = 0.01

    needs = Needs(start="teacher", weights=True)
    tunable = ("start",)

    def prepare(self, student: Network, labels: Tensor, embeddings: Tensor | None) -> None:
        """Store the student's initial weights."""
        self._backbone = list(student.backbone.parameters())
        self._start = [parameter.detach().clone() for parameter in self._backbone]
        self._head = list(student.head.parameters())

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Return cross-entropy and the two penalties."""
        from torch import stack

        terms = {"ce": losses.ce_loss(student.logits, batch.labels)}
        if self.settings.start:
            moved = [(w - start).square().sum() for w, start in zip(self._backbone, self._start, strict=True)]
            terms["start"] = self.settings.start / 2 * stack(moved).sum()
        if self.settings.head:
            terms["head"] = self.settings.head / 2 * stack([v.square().sum() for v in self._head]).sum()
        return terms
