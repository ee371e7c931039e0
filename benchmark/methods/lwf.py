"""Learning without forgetting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt

from benchmark import losses
from benchmark.methods import METHODS, Batch
from benchmark.methods.incremental import Incremental

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Outputs


@METHODS.register("lwf")
class LwF(Incremental):
    """Learning without forgetting: learn new classes, distil old outputs. Li and Hoiem 2016, arXiv 1606.09282.

    loss = CE over the new outputs on images of new classes + kd * T^2 KL(softmax(z_t / T) || softmax(z_s / T)) over the
    old outputs on all images

    Exemplars, if any, enter the second term only.

    The defaults (T = 2, weight 1) are the paper's; the factor T^2 is that of Hinton et al. PyCIL's weight is 3 without
    T^2, 0.75 here. The paper first trains the new head alone, which is not done here. Some public codes use
    cross-entropy over all outputs; the accuracy on old classes then collapses for every weight.
    """

    equation = r"""
    \mathcal{L} = \mathrm{CE}\left((z_s^k)_{k\ \text{new}},\ y\right)_{y\ \text{new}}
      + \texttt{kd}\,\frac{T^2}{B} \sum_{i=1}^{B}
        \mathrm{KL}\left(\sigma(z_t^i / T) \,\|\, \sigma\left((z_s^{ik} / T)_{k\ \text{old}}\right)\right)
    """

    @dataclass(frozen=True)
    class Settings:
        """Weight and temperature of the divergence."""

        kd: Annotated[float, Ge(0)] = 1.0
        temperature: Annotated[float, Gt(0)] = 2.0

    tunable = ("kd",)

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Return cross-entropy over the new classes and the divergence on the old ones."""
        terms = {"ce": losses.subset_cross_entropy(student.logits, batch.labels, self.columns(self.new, batch))}
        if self.settings.kd:
            terms["kd"] = self.settings.kd * self.distillation_loss(student, teacher, self.settings.temperature)
        return terms
