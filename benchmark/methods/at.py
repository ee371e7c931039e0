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

    The larger of two maps is average-pooled to the smaller.

    Defaults (1000 on the sum of three stages) are those of RepDistiller and mdistiller, whose value this is, as it is
    that of the authors' code; the paper's formula is not that of its code, which is followed. Of the four stages of
    conv4 the first three are the default.
    """

    @dataclass(frozen=True)
    class Settings:
        """Weight of the attention term and the stages it is summed over, with commas between."""

        attention: Annotated[float, Ge(0)] = 1000.0
        taps: str = "stage1,stage2,stage3"

    needs = Needs(teacher=True, taps=("stage1", "stage2", "stage3"))
    tunable = ("attention",)

    def build_connector(self, student: Shapes, teacher: Shapes) -> None:
        """None: the maps need no bridge. Stages that are not there are refused."""
        self._taps = student.named(self.settings.taps), teacher.named(self.settings.taps)

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Cross-entropy and the attention of all stages."""
        from torch import stack

        assert teacher is not None
        terms = {"ce": losses.ce_loss(student.logits, batch.labels)}
        if self.settings.attention:
            pairs = zip(*self._taps, strict=True)
            stages = [losses.attention_transfer_loss(student.tap(ours), teacher.tap(theirs)) for ours, theirs in pairs]
            terms["attention"] = self.settings.attention * stack(stages).sum()
        return terms
