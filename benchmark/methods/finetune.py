"""Fine-tuning, the simplest way to reuse a teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark import losses
from benchmark.methods import METHODS, Batch, IncrementalDefaults, Method, Needs

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Outputs


@METHODS.register("finetune")
class FineTune(Method):
    """Start from the teacher's weights and train on by cross-entropy. A reference: no distillation.

    loss = CE(z_s, y)

    The student starts from the teacher's backbone and from the head's rows of the classes that both have; the other
    rows are drawn. Student and teacher must have the same backbone. Steps and rate are those of every method. If
    classes are added, it trains on images of the new classes alone: a lower bound for what is kept of the old ones.
    """

    family = "weights"
    equation = r"""
    \mathcal{L} = \mathrm{CE}(z_s, y), \qquad w_0 = w_t
    """

    needs = Needs(start="teacher")
    incremental_defaults = IncrementalDefaults(memory="none")

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Return the cross-entropy."""
        return {"ce": losses.ce_loss(student.logits, batch.labels)}
