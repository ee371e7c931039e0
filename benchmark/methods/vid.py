"""Variational information distillation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from benchmark import losses
from benchmark.methods import METHODS, Batch, Method, Needs, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmark.backbones.network import Outputs


@METHODS.register("vid")
class VID(Method):
    """Maximise a bound on the information shared with the teacher's maps. Ahn et al., CVPR 2019, arXiv 1904.05835.

    loss = CE(z_s, y) + vid * sum over stages of mean 0.5 [(Reg(F_s) - F_t)^2 / var + log var], var = softplus(scale) +
    1e-5 per channel

    Reg is a chain of three 1 x 1 convolutions and two ReLUs, and both it and the scale are trained along with the
    student. The term may be negative.

    Defaults (1, three stages, on conv4 the first three of four, a first variance of 5) are those of RepDistiller, whose
    value this is. mdistiller has the same formula, but its list of learnt parameters leaves the scale out.
    """

    @dataclass(frozen=True)
    class Settings:
        """Weight of the term and the stages it is summed over, with commas between."""

        vid: Annotated[float, Ge(0)] = 1.0
        taps: str = "stage1,stage2,stage3"

    needs = Needs(teacher=True, taps=("stage1", "stage2", "stage3"))
    tunable = ("vid",)

    def build_connector(self, student: Shapes, teacher: Shapes) -> nn.Module:
        """A regressor per stage."""
        from torch.nn import ModuleList

        from benchmark.backbones.connectors import VariationalRegressor

        self._taps = student.named(self.settings.taps), teacher.named(self.settings.taps)
        pairs = zip(*self._taps, strict=True)
        self.regressors = [VariationalRegressor(student.map(ours), teacher.map(theirs)) for ours, theirs in pairs]
        return ModuleList(self.regressors)

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Cross-entropy and the negative log-likelihood of all stages."""
        from torch import stack

        assert teacher is not None
        terms = {"ce": losses.ce_loss(student.logits, batch.labels)}
        if self.settings.vid:
            stages = []
            for ours, theirs, regressor in zip(*self._taps, self.regressors, strict=True):
                mean, target = regressor(student.tap(ours), teacher.tap(theirs))
                stages.append(losses.vid_loss(mean, regressor.log_scale, target))
            terms["vid"] = self.settings.vid * stack(stages).sum()
        return terms
