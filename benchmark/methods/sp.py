"""Similarity-preserving distillation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from benchmark import losses
from benchmark.methods import METHODS, Batch, Method, Needs, Shapes

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Outputs


@METHODS.register("sp")
class SimilarityPreserving(Method):
    """Match which images of a batch resemble each other. Tung and Mori, ICCV 2019, arXiv 1907.09682.

    loss = CE(z_s, y) + similarity * ||N(F_s F_s^T) - N(F_t F_t^T)||_F^2 / B^2, F the maps of a stage flattened to rows
    and N the L2 normalisation of rows

    The defaults (3000, the last map) are those of RepDistiller and mdistiller. A public code that writes
    ``F.normalize(x, 1)`` normalises with p = 1, a known bug; here p = 2.
    """

    family = "feature maps"
    equation = r"""
    \mathcal{L} = \mathrm{CE}(z_s, y)
      + \frac{\texttt{similarity}}{B^2} \left\lVert N(F_s F_s^{\top}) - N(F_t F_t^{\top}) \right\rVert_F^2
    """

    @dataclass(frozen=True)
    class Settings:
        """Weight of the term, and its stage: a name, or ``last`` for each network's last stage (stage4 of conv4)."""

        similarity: Annotated[float, Ge(0)] = 3000.0
        tap: str = "last"

    needs = Needs(teacher=True, taps=("last",))
    tunable = ("similarity",)

    def build_connector(self, student: Shapes, teacher: Shapes) -> None:
        """Read the stage from the settings; the maps need no connector."""
        self._tap, self._teacher_tap = student.single_stage(self.settings.tap), teacher.single_stage(self.settings.tap)

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Return cross-entropy and the similarity term."""
        assert teacher is not None
        terms = {"ce": losses.ce_loss(student.logits, batch.labels)}
        if self.settings.similarity:
            matching = losses.similarity_preserving_loss(student.tap(self._tap), teacher.tap(self._teacher_tap))
            terms["similarity"] = self.settings.similarity * matching
        return terms
