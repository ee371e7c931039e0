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

    The larger of two maps is average-pooled to the size of the smaller.

    The defaults (50, the polynomial kernel, three stages, for conv4 the first three of four) are those of RepDistiller
    and mdistiller; the loss equals theirs.
    """

    family = "feature maps"
    equation = r"""
    \mathcal{L} = \mathrm{CE}(z_s, y)
      + \texttt{nst} \sum_{l \in \texttt{taps}} \left[ \mathrm{mean}\,k(f_t, f_t') + \mathrm{mean}\,k(f_s, f_s')
      - 2\,\mathrm{mean}\,k(f_s, f_t) \right],
    \qquad k(f, g) = \langle f, g \rangle^2, \qquad f = \frac{F_c}{\lVert F_c \rVert_2}
    """

    @dataclass(frozen=True)
    class Settings:
        """Weight of the term, and its stages, separated by commas."""

        nst: Annotated[float, Ge(0)] = 50.0
        taps: str = "stage1,stage2,stage3"

    needs = Needs(teacher=True, taps=("stage1", "stage2", "stage3"))
    tunable = ("nst",)

    def build_connector(self, student: Shapes, teacher: Shapes) -> None:
        """Read the stages from the settings; the maps need no connector."""
        self._taps = student.parse_stages(self.settings.taps), teacher.parse_stages(self.settings.taps)

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Return cross-entropy and the discrepancy, summed over stages."""
        from torch import stack

        assert teacher is not None
        terms = {"ce": losses.ce_loss(student.logits, batch.labels)}
        if self.settings.nst:
            pairs = zip(*self._taps, strict=True)
            stages = [losses.nst_loss(student.tap(a), teacher.tap(b)) for a, b in pairs]
            terms["nst"] = self.settings.nst * stack(stages).sum()
        return terms
