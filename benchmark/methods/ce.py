"""Cross-entropy alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from benchmark import losses
from benchmark.methods import METHODS, Batch, Method, Needs
from benchmark.settings import ADDED_LATER

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Outputs


@METHODS.register("ce")
class CrossEntropy(Method):
    """Cross-entropy on the labels; no teacher. The lower bound for distillation.

    loss = CE(z_s, y), or 20 * mean over all outputs of BCE(sigmoid(z_s), [y = k]) with ``outputs`` = bce

    The second form is how iCaRL's code trains (arXiv 1611.07725). The factor 20 stands for its learning rate of 2,
    twenty times that of every method here.
    """

    family = "labels"
    equation = r"""
    \mathcal{L} = \mathrm{CE}(z_s, y) \quad (\text{ce}), \qquad
    \mathcal{L} = \frac{20}{B K} \sum_{i=1}^{B} \sum_{k=1}^{K} \mathrm{BCE}\left(s(z_s^{ik}),\ [y^i = k]\right),
    \quad s(u) = \frac{1}{1 + e^{-u}} \quad (\text{bce})
    """

    @dataclass(frozen=True)
    class Settings:
        """Softmax or sigmoid outputs."""

        outputs: Literal["ce", "bce"] = field(default="ce", metadata=ADDED_LATER)

    needs = Needs(start="fresh")

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Return the cross-entropy of the labels."""
        if self.settings.outputs == "bce":
            return {"bce": 20 * losses.binary_cross_entropy(student.logits, batch.labels)}
        return {"ce": losses.ce_loss(student.logits, batch.labels)}
