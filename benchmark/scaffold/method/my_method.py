"""The method my-method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge
from benchmark import losses
from benchmark.methods import Batch, Method, Needs

if TYPE_CHECKING:
    from benchmark.backbones.network import Outputs
    from torch import Tensor


class MyMethod(Method):
    """Match the teacher's cosines between the images of a batch. Unpublished, 2000.

    loss = CE(z_s, y) + weight * mean_ij (cos(s_i, s_j) - cos(t_i, t_j))^2, s and t the embeddings of student and
    teacher.
    """

    @dataclass(frozen=True)
    class Settings:
        """Settings of the method.

        Attributes:
            weight: Weight of the cosine term; 0 turns it off.
        """

        weight: Annotated[float, Ge(0)] = 10.0

    needs = Needs(teacher=True)
    tunable = ("weight",)

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Cross-entropy and the squared differences of cosines."""
        assert teacher is not None
        terms = {"ce": losses.ce_loss(student.logits, batch.labels)}
        if self.settings.weight:
            difference = _cosines(student.embedding) - _cosines(teacher.embedding)
            terms["cosines"] = self.settings.weight * difference.square().mean()
        return terms


def _cosines(embeddings: Tensor) -> Tensor:
    """Cosines between all pairs of rows: B x D to B x B."""
    from torch.nn.functional import normalize

    rows = normalize(embeddings, dim=1)
    return rows @ rows.T
