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

    The student starts from the teacher's backbone and, for the classes that both have, its head's rows; the other rows
    are drawn. It applies only where student and teacher have the same backbone. The steps and the rate are those of
    every other method. Where classes are added, it sees images of the new ones alone: the floor of what is kept.
    """

    needs = Needs(start="teacher")
    incremental_defaults = IncrementalDefaults(memory="none")

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Cross-entropy."""
        return {"ce": losses.ce_loss(student.logits, batch.labels)}
