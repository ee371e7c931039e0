"""Weight aligning."""

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


@METHODS.register("wa")
class WA(Incremental):
    """Weight aligning: distil, then scale the new rows of the head. Zhao et al., CVPR 2020, arXiv 1911.07053.

    loss = (1 - r) CE(z_s, y) + r T^2 KL(softmax(z_t / T) || softmax(z_s / T)) over the old outputs, r = n_old / n

    After training, the head's rows of new classes are scaled to the mean norm of the rows of old classes.

    The default T = 2 is the paper's. The paper also clips negative weights of the head; this is not done here.
    """

    equation = r"""
    \mathcal{L} = (1 - r)\,\mathrm{CE}(z_s, y)
      + r\,\frac{T^2}{B} \sum_{i=1}^{B}
        \mathrm{KL}\left(\sigma(z_t^i / T) \,\|\, \sigma\left((z_s^{ik} / T)_{k\ \text{old}}\right)\right),
    \qquad r = \frac{n_{\text{old}}}{n}

    W_{\text{new}} \leftarrow W_{\text{new}}\ \frac{\mathrm{mean}_{k\ \text{old}} \lVert W_k \rVert_2}
      {\mathrm{mean}_{k\ \text{new}} \lVert W_k \rVert_2} \qquad \text{after training}
    """

    @dataclass(frozen=True)
    class Settings:
        """Temperature of the divergence."""

        temperature: Annotated[float, Gt(0)] = 2.0

    incremental_defaults = IncrementalDefaults(rebalance="align")

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Return cross-entropy and the divergence on old classes, weighted by the shares of new and old classes."""
        share = len(self.old) / len(self.labels.student)
        return {
            "ce": (1 - share) * losses.ce_loss(student.logits, batch.labels),
            "kd": share * self.distillation_loss(student, teacher, self.settings.temperature),
        }
