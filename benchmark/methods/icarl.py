"""iCaRL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt

from benchmark import losses
from benchmark.methods import METHODS, Batch, IncrementalDefaults
from benchmark.methods.incremental import Incremental

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Outputs


@METHODS.register("icarl")
class ICaRL(Incremental):
    """iCaRL: sigmoid outputs, old ones distilled; nearest mean of exemplars. arXiv 1611.07725.

    loss = bce * mean over all outputs of BCE(sigmoid(z_s), target)

    The targets are the teacher's sigmoids for old classes and the label for new ones. The classifier is the nearest
    mean of exemplars, chosen by herding. Rebuffi et al., CVPR 2017.

    The default weight 20 stands for the authors' learning rate of 2, twenty times that of every method here.
    """

    equation = r"""
    \mathcal{L} = \frac{\texttt{bce}}{B K} \sum_{i=1}^{B} \sum_{k=1}^{K} \mathrm{BCE}\left(s(z_s^{ik}),\ g^{ik}\right),
    \qquad
    g^{ik} = \begin{cases} s(z_t^{ik}) & k\ \text{old} \\
      1\ \text{if}\ y^i = k,\ \text{else}\ 0 & k\ \text{new} \end{cases},
    \qquad s(u) = \frac{1}{1 + e^{-u}}
    """

    @dataclass(frozen=True)
    class Settings:
        """Weight of the loss."""

        bce: Annotated[float, Gt(0)] = 20.0

    tunable = ("bce",)
    incremental_defaults = IncrementalDefaults(head="nme")

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Return the binary cross-entropy of all outputs."""
        assert teacher is not None
        loss = losses.sigmoid_distillation_loss(
            student.logits, self.shared_logits(student, teacher)[1], batch.labels, self.columns(self.old, batch)
        )
        return {"bce": self.settings.bce * loss}
