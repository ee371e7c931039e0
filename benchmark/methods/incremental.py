"""Base of the methods that distil while classes are added; each is a choice in five places.

| method | start   | cross-entropy over           | distillation              | rebalance  | head    |
| ------ | ------- | ---------------------------- | ------------------------- | ---------- | ------- |
| replay | teacher | all                          | none                      | none       | network |
| lwf    | teacher | new classes                  | old outputs, T = 2        | none       | network |
| icarl  | teacher | all, sigmoid                 | old sigmoids              | none       | nme     |
| eeil   | teacher | all                          | old outputs, T = 2        | balanced   | network |
| wa     | teacher | all                          | old outputs, by old share | align      | network |
| lucir  | teacher | all, cosines, new rows learn | embedding                 | by margin  | network |
| joint  | fresh   | all, all data                | none                      | none       | network |

``finetune`` is the lower bound. Any other method that applies takes its start from ``student.start`` and the last two
choices from the protocol's settings (``protocol.rebalance``, ``protocol.head``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark import losses
from benchmark.methods import Batch, Method, Needs, Shapes
from benchmark.methods.base import index_tensor

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Outputs


class Incremental(Method):
    """Base of the methods that distil old classes: indices of old and new outputs, and the divergence on the old."""

    family = "incremental"
    needs = Needs(teacher=True, labels="extended", start="teacher")

    def build_connector(self, student: Shapes, teacher: Shapes) -> None:
        """Split the student's outputs into those of old and of new classes; there is no connector."""
        self.old, _ = self.labels.shared()
        self.new = sorted(set(range(len(self.labels.student))) - set(self.old))

    def columns(self, outputs: list[int], batch: Batch) -> Tensor:
        """Return output indices as a tensor on the batch's device."""
        return index_tensor(tuple(outputs), batch.labels.device)

    def distillation_loss(self, student: Outputs, teacher: Outputs | None, temperature: float) -> Tensor:
        """Return T^2 KL(softmax(z_t / T) || softmax(z_s / T)) over the old outputs, mean over the batch."""
        assert teacher is not None
        return losses.kd_loss(*self.shared_logits(student, teacher), temperature)
