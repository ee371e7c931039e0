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

    Reg is a chain of three 1 x 1 convolutions and two ReLUs. Reg and the scale are trained with the student. The term
    may be negative.

    The defaults (1, three stages, for conv4 the first three of four, an initial variance of 5) are those of
    RepDistiller; the loss equals theirs. mdistiller has the same formula, but does not train the scale.
    """

    family = "feature maps"
    equation = r"""
    \mathcal{L} = \mathrm{CE}(z_s, y)
      + \texttt{vid} \sum_{l \in \texttt{taps}} \mathrm{mean}\,\frac{1}{2}
        \left[ \frac{\left(\mathrm{Reg}(F_s) - F_t\right)^2}{v_c} + \log v_c \right],
    \qquad v_c = \log\left(1 + e^{r_c}\right) + 10^{-5}
    """

    @dataclass(frozen=True)
    class Settings:
        """Weight of the term, and its stages, separated by commas."""

        vid: Annotated[float, Ge(0)] = 1.0
        taps: str = "stage1,stage2,stage3"

    needs = Needs(teacher=True, taps=("stage1", "stage2", "stage3"))
    tunable = ("vid",)

    def build_connector(self, student: Shapes, teacher: Shapes) -> nn.Module:
        """Build a regressor for each stage."""
        from torch.nn import ModuleList

        from benchmark.backbones.connectors import VariationalRegressor

        self._taps = student.parse_stages(self.settings.taps), teacher.parse_stages(self.settings.taps)
        pairs = zip(*self._taps, strict=True)
        self.regressors = [VariationalRegressor(student.map(a), teacher.map(b)) for a, b in pairs]
        return ModuleList(self.regressors)

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Return cross-entropy and the negative log-likelihood, summed over stages."""
        from torch import stack

        assert teacher is not None
        terms = {"ce": losses.ce_loss(student.logits, batch.labels)}
        if self.settings.vid:
            stages = []
            for student_tap, teacher_tap, regressor in zip(*self._taps, self.regressors, strict=True):
                mean, target = regressor(student.tap(student_tap), teacher.tap(teacher_tap))
                stages.append(losses.vid_loss(mean, regressor.log_scale, target))
            terms["vid"] = self.settings.vid * stack(stages).sum()
        return terms
