"""Relational knowledge distillation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from benchmark import losses
from benchmark.methods import METHODS, Batch, Method, Needs

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Outputs


@METHODS.register("rkd")
class RKD(Method):
    """Match pairwise distances and triplet angles of embeddings. Park et al., CVPR 2019, arXiv 1904.05068.

    loss = CE(z_s, y) + distance * mean_ij H(d_s - d_t) + angle * mean_ijk H(cos_s - cos_t), H the Huber function of
    threshold 1, d_ij = ||e_i - e_j|| over the mean of the positive distances, cos_ijk the cosine of the angle at j

    The defaults (25, 50) are those of RepDistiller and mdistiller; the loss equals theirs. The authors' own code, for
    metric learning, has the same terms with other weights.
    """

    family = "embeddings"
    equation = r"""
    \mathcal{L} = \mathrm{CE}(z_s, y)
      + \frac{\texttt{distance}}{B^2} \sum_{i,j} H\left(d_s^{ij} - d_t^{ij}\right)
      + \frac{\texttt{angle}}{B^3} \sum_{i,j,k} H\left(\cos_s^{ijk} - \cos_t^{ijk}\right)

    d^{ij} = \frac{\lVert e^i - e^j \rVert_2}{\mu}, \qquad
    \cos^{ijk} = \left\langle \frac{e^i - e^j}{\lVert e^i - e^j \rVert_2}, \frac{e^k - e^j}{\lVert e^k - e^j \rVert_2}
    \right\rangle, \qquad
    H(u) = \begin{cases} u^2 / 2 & |u| < 1 \\ |u| - 1/2 & |u| \geq 1 \end{cases}
    """

    @dataclass(frozen=True)
    class Settings:
        """Weights of the distance and the angle term; 0 turns a term off."""

        distance: Annotated[float, Ge(0)] = 25.0
        angle: Annotated[float, Ge(0)] = 50.0

    needs = Needs(teacher=True)
    tunable = ("distance", "angle")

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Return cross-entropy, the distance term and the angle term."""
        assert teacher is not None
        terms = {"ce": losses.ce_loss(student.logits, batch.labels)}
        if self.settings.distance:
            terms["distance"] = self.settings.distance * losses.rkd_distance_loss(student.embedding, teacher.embedding)
        if self.settings.angle:
            terms["angle"] = self.settings.angle * losses.rkd_angle_loss(student.embedding, teacher.embedding)
        return terms
