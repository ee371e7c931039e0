"""A method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from benchmark import losses
from benchmark.methods import Batch, Method, Needs

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Outputs


class Cosine(Method):
    """Match the teacher's similarities of a batch. Acme 2026.

    loss = CE(z_s, y) + weight * SP(s, t), the similarity-preserving loss of embeddings as maps of one pixel.
    """

    @dataclass(frozen=True)
    class Settings:
        """Settings of the method.

        Attributes:
            weight: Weight of the similarity term beside cross-entropy.
        """

        weight: Annotated[float, Ge(0)] = 100.0

    needs = Needs(teacher=True)

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Cross-entropy and the similarity term."""
        assert teacher is not None
        maps = (outputs.embedding[:, :, None, None] for outputs in (student, teacher))
        similar = self.settings.weight * losses.similarity_preserving_loss(*maps)
        return {"ce": losses.ce_loss(student.logits, batch.labels), "similar": similar}
