"""FitNets: hints from a middle stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le

from benchmark import losses
from benchmark.methods import METHODS, Batch, Method, Needs, Shapes, Stage, TransferContext
from benchmark.methods.requirements import Traits

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmark.backbones.network import Outputs


def shared_classes_for_distillation(method: Traits, context: TransferContext) -> str | None:
    """The second of two stages, which distils logits, has classes to compare."""
    settings = method.settings
    distils = settings.form == "two-stage" and settings.hint_share < 1 and settings.kd > 0
    if distils and context.label_relation == "disjoint":
        return "its second stage compares outputs class by class and teacher and student share no class"
    return None


@METHODS.register("fitnet")
class FitNet(Method):
    """Regress the teacher's middle stage from the student's. Romero et al., ICLR 2015, arXiv 1412.6550.

    loss = CE(z_s, y) + hint * mean((Reg(F_s) - F_t)^2) in the joint form; of two stages hint * mean((Reg(F_s) -
    F_t)^2), then (1 - kd) CE(z_s, y) + kd * T^2 KL(softmax(z_t / T) || softmax(z_s / T)) over the classes that both
    have

    Reg is a convolution with batch norm and ReLU, trained with the student. In the two-stage form, the original
    paper's, the hint is the only term for ``hint_share`` of the steps.

    The joint form and its default weight 100 are those of RepDistiller and mdistiller; the loss equals theirs. In the
    two-stage form kd and T are those of their KD. The default of ``hint_share`` is the 30 of 240 epochs that
    RepDistiller gives to the first stage of its two-stage methods; FitNet is not one of them there.
    """

    family = "feature maps"
    equation = r"""
    \mathcal{L} = \mathrm{CE}(z_s, y) + \texttt{hint}\,\mathrm{mean}\left(\mathrm{Reg}(F_s) - F_t\right)^2
    \qquad (\text{joint})

    \mathcal{L}_1 = \texttt{hint}\,\mathrm{mean}\left(\mathrm{Reg}(F_s) - F_t\right)^2, \qquad
    \mathcal{L}_2 = (1 - \texttt{kd})\,\mathrm{CE}(z_s, y)
      + \texttt{kd}\,\frac{T^2}{B} \sum_{i=1}^{B} \mathrm{KL}\left(\sigma(z_t^i / T) \,\|\, \sigma(z_s^i / T)\right)
    \qquad (\text{two stages})
    """

    @dataclass(frozen=True)
    class Settings:
        """Form, weight of the hint and its stage; the other settings concern the two-stage form only."""

        form: Literal["joint", "two-stage"] = "joint"
        hint: Annotated[float, Ge(0)] = 100.0
        tap: str = "stage2"
        hint_share: Annotated[float, Ge(0), Le(1)] = 30 / 240
        """Share of the training steps of the first stage; 0 omits it, 1 omits the second."""
        kd: Annotated[float, Ge(0), Le(1)] = 0.9
        temperature: Annotated[float, Gt(0)] = 4.0

    needs = Needs(teacher=True, taps=("stage2",))
    tunable = ("hint",)
    rules = (shared_classes_for_distillation, *Method.rules)

    def build_connector(self, student: Shapes, teacher: Shapes) -> nn.Module:
        """Build the regressor from the student's map to the teacher's."""
        from benchmark.backbones.connectors import MapRegressor

        self._tap, self._teacher_tap = student.single_stage(self.settings.tap), teacher.single_stage(self.settings.tap)
        return MapRegressor(student.map(self._tap), teacher.map(self._teacher_tap))

    def stages(self) -> list[Stage]:
        """Return one stage, or the hint and the distillation."""
        if self.settings.form == "joint":
            return [Stage()]
        share = self.settings.hint_share if self.settings.hint else 0.0
        return [stage for stage in (Stage("hint", share, head=False), Stage("kd", 1 - share)) if stage.share > 0]

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Return the terms of the batch's stage."""
        assert teacher is not None
        assert self.connector is not None
        s = self.settings
        terms = {}
        if batch.stage != "hint" and (s.form == "joint" or s.kd < 1):
            weight = 1.0 if s.form == "joint" else 1 - s.kd
            terms["ce"] = weight * losses.ce_loss(student.logits, batch.labels)
        if batch.stage != "kd" and s.hint:
            regressed = self.connector(student.tap(self._tap))
            terms["hint"] = s.hint * losses.hint_loss(regressed, teacher.tap(self._teacher_tap))
        if batch.stage == "kd" and s.kd:
            terms["kd"] = s.kd * losses.kd_loss(*self.shared_logits(student, teacher), s.temperature)
        return terms
