"""Weight aligning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt

from benchmark import losses
from benchmark.methods import METHODS, Batch, IncrementalDefaults
from benchmark.methods.incremental import Incremental
from benchmark.settings import ADDED_LATER

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Outputs


@METHODS.register("wa")
class WA(Incremental):
    """Weight aligning: distil, then scale the new rows of the head. Zhao et al., CVPR 2020, arXiv 1911.07053.

    loss = (1 - r) CE(z_s, y) + r * kd * KL(softmax(z_t / T) || softmax(z_s / T)) over the old outputs, r = n_old / n

    After training, the head's rows of new classes are scaled to the mean norm of the rows of old classes.

    The defaults (T = 2, weight 1, no factor T^2) are those of PyCIL, whose cross-entropy of softened outputs has the
    same gradient (an earlier version of it has weights 1 and 2: ``share`` = false, ``kd`` = 2). Another public code has
    the factor T^2 and no share: ``kd`` = 4 and ``share`` = false, which makes the weights 1 and kd. The paper also
    clips negative weights of the head; neither code does, nor is it done here.
    """

    equation = r"""
    \mathcal{L} = (1 - r)\,\mathrm{CE}(z_s, y)
      + r\,\frac{\texttt{kd}}{B} \sum_{i=1}^{B}
        \mathrm{KL}\left(\sigma(z_t^i / T) \,\|\, \sigma\left((z_s^{ik} / T)_{k\ \text{old}}\right)\right),
    \qquad r = \frac{n_{\text{old}}}{n}

    W_{\text{new}} \leftarrow W_{\text{new}}\ \frac{\mathrm{mean}_{k\ \text{old}} \lVert W_k \rVert_2}
      {\mathrm{mean}_{k\ \text{new}} \lVert W_k \rVert_2} \qquad \text{after training}
    """

    @dataclass(frozen=True)
    class Settings:
        """Temperature and weight of the divergence, and whether the share r of old classes weighs the terms."""

        temperature: Annotated[float, Gt(0)] = 2.0
        kd: Annotated[float, Ge(0)] = field(default=1.0, metadata=ADDED_LATER)
        share: bool = field(default=True, metadata=ADDED_LATER)

    incremental_defaults = IncrementalDefaults(rebalance="align")

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Return cross-entropy and the divergence on old classes, weighted by the shares of new and old classes."""
        s = self.settings
        share = len(self.old) / len(self.labels.student)
        ce, kd = (1 - share, share * s.kd) if s.share else (1.0, s.kd)
        terms = {"ce": ce * losses.ce_loss(student.logits, batch.labels)}
        if kd:
            terms["kd"] = kd / s.temperature**2 * self.distillation_loss(student, teacher, s.temperature)
        return terms
