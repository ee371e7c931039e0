"""A new head on the frozen teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark import losses
from benchmark.methods import METHODS, Batch, Method, Needs, Stage

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Outputs


@METHODS.register("linear-probe")
class LinearProbe(Method):
    """Train a new linear head on the frozen teacher. A reference: the teacher used as it is.

    loss = CE(z_s, y), in the head alone

    A new head is drawn. The student is the teacher: its backbone, its statistics of batch normalisation, its input
    (Alain and Bengio 2016, arXiv 1610.01644). Steps and rate are those of every method.
    """

    family = "weights"
    equation = r"""
    \mathcal{L} = \mathrm{CE}(W e_t + b,\ y), \qquad e_t\ \text{frozen}
    """

    needs = Needs(start="teacher", trains="head")

    def stages(self) -> list[Stage]:
        """Return one stage, with a fresh head."""
        return [Stage("head", reset_head=True)]

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Return the cross-entropy."""
        return {"ce": losses.ce_loss(student.logits, batch.labels)}
