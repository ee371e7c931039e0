"""Cross-entropy alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark import losses
from benchmark.methods import METHODS, Batch, Method, Needs

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Outputs


@METHODS.register("ce")
class CrossEntropy(Method):
    """Cross-entropy on the labels; no teacher. The lower bound for distillation.

    loss = CE(z_s, y)
    """

    family = "labels"
    equation = r"""
    \mathcal{L} = \mathrm{CE}(z_s, y)
    """

    needs = Needs(start="fresh")

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Return ``CE(z_s, y)``."""
        return {"ce": losses.ce_loss(student.logits, batch.labels)}
