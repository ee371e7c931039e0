"""Fine-tuning, the simplest way to reuse a teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.methods import METHODS, Batch, Method, Needs

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Outputs


@METHODS.register("finetune")
class FineTune(Method):
    """Start from the teacher's weights and train on by cross-entropy. A reference: no distillation.

    loss = CE(z_s, y), from the teacher's backbone and, for the classes that both have, its head's rows; the other rows
    are drawn. It applies only where student and teacher have the same backbone. The steps and the rate are those of
    every other method.
    """

    needs = Needs(start="teacher")

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Cross-entropy."""
        from torch.nn.functional import cross_entropy

        return {"ce": cross_entropy(student.logits, batch.labels)}
