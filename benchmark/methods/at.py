"""Attention transfer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from benchmark import losses
from benchmark.methods import METHODS, Batch, Method, Needs, Shapes

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Outputs


@METHODS.register("at")
class AttentionTransfer(Method):
    """Match where the stages of both networks are active. Zagoruyko and Komodakis, ICLR 2017, arXiv 1612.03928.

    loss = CE(z_s, y) + attention * sum over stages of mean((a_s - a_t)^2), a = L2-normalised flatten(mean over channels
    of F^2)

    The larger of two maps is average-pooled to the size of the smaller.

    The defaults (1000 on the sum of three stages) are those of RepDistiller and mdistiller. The loss equals theirs and
    that of the authors' code; the paper's formula differs from its code. Of the four stages of conv4 and VGG the
    first three are the default; RepDistiller matches all four of VGG (``taps`` = stage1,stage2,stage3,stage4).
    """

    family = "feature maps"
    equation = r"""
    \mathcal{L} = \mathrm{CE}(z_s, y)
      + \texttt{attention} \sum_{l \in \texttt{taps}} \mathrm{mean}\left(a_s^l - a_t^l\right)^2,
    \qquad a = \frac{v}{\lVert v \rVert_2}, \qquad v = \frac{1}{C} \sum_{c=1}^{C} F_c^2
    """

    @dataclass(frozen=True)
    class Settings:
        """Weight of the attention term, and its stages, separated by commas."""

        attention: Annotated[float, Ge(0)] = 1000.0
        taps: str = "stage1,stage2,stage3"

    needs = Needs(teacher=True, taps=("stage1", "stage2", "stage3"))
    tunable = ("attention",)

    def build_connector(self, student: Shapes, teacher: Shapes) -> None:
        """Read the stages from the settings; the maps need no connector."""
        self._taps = student.parse_stages(self.settings.taps), teacher.parse_stages(self.settings.taps)

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Return cross-entropy and attention, summed over stages."""
        from torch import stack

        assert teacher is not None
        terms = {"ce": losses.ce_loss(student.logits, batch.labels)}
        if self.settings.attention:
            pairs = zip(*self._taps, strict=True)
            stages = [losses.attention_transfer_loss(student.tap(a), teacher.tap(b)) for a, b in pairs]
            terms["attention"] = self.settings.attention * stack(stages).sum()
        return terms
