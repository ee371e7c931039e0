"""Neuron selectivity transfer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from benchmark import losses
from benchmark.methods import METHODS, Batch, Method, Needs, Shapes

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Outputs


@METHODS.register("nst")
class NST(Method):
    """Match the distributions of the channels' spatial patterns. Huang and Wang 2017, arXiv 1707.01219.

    loss = CE(z_s, y) + nst * sum over stages of [mean k(t, t') + mean k(s, s') - 2 mean k(s, t)], with k(x, y) =
    <x, y>^2 over pairs of channels, each an L2-normalised map

    The larger map is average-pooled to the smaller.

    Defaults (50, the polynomial kernel, three stages, on conv4 the first three of four) are those of
    RepDistiller and mdistiller, whose value this is.
    """

    @dataclass(frozen=True)
    class Settings:
        """Weight of the term and the stages it is summed over, with commas between."""

        nst: Annotated[float, Ge(0)] = 50.0
        taps: str = "stage1,stage2,stage3"

    needs = Needs(teacher=True, taps=("stage1", "stage2", "stage3"))
    tunable = ("nst",)

    def build_connector(self, student: Shapes, teacher: Shapes) -> None:
        """None: the maps need no bridge. Stages that are not there are refused."""
        self._taps = student.named(self.settings.taps), teacher.named(self.settings.taps)

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Cross-entropy and the discrepancy of all stages."""
        from torch import stack

        assert teacher is not None
        terms = {"ce": losses.ce_loss(student.logits, batch.labels)}
        if self.settings.nst:
            pairs = zip(*self._taps, strict=True)
            stages = [losses.nst_loss(student.tap(ours), teacher.tap(theirs)) for ours, theirs in pairs]
            terms["nst"] = self.settings.nst * stack(stages).sum()
        return terms
