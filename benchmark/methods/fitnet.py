"""FitNets: hints from a middle stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from benchmark import losses
from benchmark.methods import METHODS, Batch, Method, Needs, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmark.backbones.network import Outputs


@METHODS.register("fitnet")
class FitNet(Method):
    """Regress the teacher's middle stage from the student's. Romero et al., ICLR 2015, arXiv 1412.6550.

    loss = CE(z_s, y) + hint * mean((Reg(F_s) - F_t)^2), the joint form with the weight 100 that RepDistiller uses;
    Reg is a convolution with batch norm and ReLU, trained along with the student.
    """

    @dataclass(frozen=True)
    class Settings:
        """Weight of the hint and the stage it is taken from."""

        hint: Annotated[float, Ge(0)] = 100.0
        tap: str = "stage2"

    needs = Needs(teacher=True, taps=("stage2",))

    def build_connector(self, student: Shapes, teacher: Shapes) -> nn.Module:
        """The regressor from the student's map to the teacher's."""
        from benchmark.backbones.connectors import MapRegressor

        return MapRegressor(student.map(self.settings.tap), teacher.map(self.settings.tap))

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Cross-entropy and the hint."""
        from torch.nn.functional import cross_entropy

        assert teacher is not None
        assert self.connector is not None
        terms = {"ce": cross_entropy(student.logits, batch.labels)}
        if self.settings.hint:
            guess = self.connector(student.tap(self.settings.tap))
            terms["hint"] = self.settings.hint * losses.hint_loss(guess, teacher.tap(self.settings.tap))
        return terms
