"""Cross-entropy alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.methods import METHODS, Batch, Method

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Outputs


@METHODS.register("ce")
class CrossEntropy(Method):
    """Cross-entropy on the labels; no teacher. The floor every distillation method has to beat."""

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """``CE(z_s, y)``."""
        from torch.nn.functional import cross_entropy

        return {"ce": cross_entropy(student.logits, batch.labels)}
