"""Probabilistic knowledge transfer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from benchmark import losses
from benchmark.methods import METHODS, Batch, Method, Needs

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Outputs


@METHODS.register("pkt")
class PKT(Method):
    """Match the similarities within a batch as probabilities. Passalis and Tefas, ECCV 2018, arXiv 1803.10837.

    loss = CE(z_s, y) + pkt * mean over B^2 of q_t log((q_t + e) / (q_s + e)), q the row-normalised (cos + 1) / 2 of the
    embeddings, e = 1e-7

    The default weight (30000) is that of RepDistiller and mdistiller; the loss equals theirs.
    """

    family = "embeddings"
    equation = r"""
    \mathcal{L} = \mathrm{CE}(z_s, y)
      + \frac{\texttt{pkt}}{B^2} \sum_{i,j} q_t^{ij} \log \frac{q_t^{ij} + \epsilon}{q_s^{ij} + \epsilon},
    \qquad q^{ij} = \frac{\cos(e^i, e^j) + 1}{\sum_{k} \left(\cos(e^i, e^k) + 1\right)}, \qquad \epsilon = 10^{-7}
    """

    @dataclass(frozen=True)
    class Settings:
        """Weight of the term."""

        pkt: Annotated[float, Ge(0)] = 30000.0

    needs = Needs(teacher=True)
    tunable = ("pkt",)

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Return cross-entropy and the divergence of similarities."""
        assert teacher is not None
        terms = {"ce": losses.ce_loss(student.logits, batch.labels)}
        if self.settings.pkt:
            terms["pkt"] = self.settings.pkt * losses.pkt_loss(student.embedding, teacher.embedding)
        return terms
