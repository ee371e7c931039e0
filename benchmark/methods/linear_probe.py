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
    """Train a new linear head on the frozen teacher. A reference: what it takes to just use the teacher.

    loss = CE(z_s, y), in the head alone

    The head is drawn anew. The student is the teacher: its backbone, its statistics of batch
    norm, its input (Alain and Bengio 2016, arXiv 1610.01644). The steps and the rate are those of every other method.
    """

    needs = Needs(start="teacher", trains="head")

    def stages(self) -> list[Stage]:
        """One, with a fresh head."""
        return [Stage("head", reset_head=True)]

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Cross-entropy."""
        return {"ce": losses.ce_loss(student.logits, batch.labels)}
