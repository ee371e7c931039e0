"""End-to-end incremental learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt

from benchmark import losses
from benchmark.methods import METHODS, Batch, IncrementalDefaults
from benchmark.methods.incremental import Incremental

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Outputs


@METHODS.register("eeil")
class EEIL(Incremental):
    """End-to-end incremental learning: distil, then balance the classes. Castro et al. 2018, arXiv 1807.09536.

    loss = CE(z_s, y) + kd * KL(softmax(z_t / T) || softmax(z_s / T)) over the old outputs

    The last part of training uses equally many images of each class at a tenth of the rate, within the steps of every
    method.

    The defaults (T = 2, weight 1, no factor T^2) are the paper's: its cross-entropy of softened outputs has the same
    gradient. In the paper the second part distils new classes too, and both parts add gradient noise; neither is done
    here. The second part takes 30 % of the steps. PyCIL's takes 40 epochs of the balanced images after 60 of all
    images: 5 % of the steps with 20 exemplars per class of CIFAR-100. In PyCIL its teacher is the network after the
    first part, the balanced images of new classes are chosen by herding (here at random), and the distillation is the
    mean binary cross-entropy over all old outputs, whose gradient is about a fortieth of this one for 50 classes.
    """

    equation = r"""
    \mathcal{L} = \mathrm{CE}(z_s, y)
      + \frac{\texttt{kd}}{B} \sum_{i=1}^{B}
        \mathrm{KL}\left(\sigma(z_t^i / T) \,\|\, \sigma\left((z_s^{ik} / T)_{k\ \text{old}}\right)\right)
    """

    @dataclass(frozen=True)
    class Settings:
        """Weight and temperature of the divergence."""

        kd: Annotated[float, Ge(0)] = 1.0
        temperature: Annotated[float, Gt(0)] = 2.0

    tunable = ("kd",)
    incremental_defaults = IncrementalDefaults(rebalance="balanced")

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Return cross-entropy over all classes and the divergence on the old ones."""
        terms = {"ce": losses.ce_loss(student.logits, batch.labels)}
        if self.settings.kd:
            weight, temperature = self.settings.kd, self.settings.temperature
            terms["kd"] = weight / temperature**2 * self.distillation_loss(student, teacher, temperature)
        return terms
