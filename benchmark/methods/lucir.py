"""LUCIR: learning a unified classifier incrementally."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt

from benchmark import losses
from benchmark.errors import InputError
from benchmark.methods import METHODS, Batch, Needs, Shapes
from benchmark.methods.incremental import Incremental
from benchmark.settings import ADDED_LATER

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Network, Outputs


@METHODS.register("lucir")
class LUCIR(Incremental):
    """LUCIR: cosine head with imprinted rows, embedding distillation, a margin. Hou et al., CVPR 2019.

    loss = CE(z_s, y) + features * sqrt(n_old / n_new) * mean (1 - cos(e_s, e_t)) + ranking * margin ranking of
    exemplars against the ``rivals`` nearest new classes

    Logits are a learnt scale times cosines. The rows of old classes are the teacher's and stay fixed (``old_rows``);
    those of new classes start as the mean of the teacher's normalised embeddings. No arXiv number: Learning a Unified
    Classifier Incrementally via Rebalancing.

    The defaults (5, 1, margin 0.5, two rivals, fixed rows) are those of the authors' code for CIFAR-100. There the
    first model has a cosine head too, and learns the scale. Here the teacher is that of every method, with a linear
    head whose rows were not learnt as cosine rows, and the scale starts at ``scale``. All rows start with length 1;
    there new rows have the old ones' mean length. Their network has no last ReLU, so that cosines have both signs:
    ``resnet32-signed``. Their optional class-balanced fine-tuning is left out.
    """

    equation = r"""
    \mathcal{L} = \mathrm{CE}(z_s, y)
      + \texttt{features} \sqrt{\frac{n_{\text{old}}}{n_{\text{new}}}}\ \mathrm{mean}\left(1 - \cos(e_s, e_t)\right)
      + \texttt{ranking}\ \underset{y\ \text{old},\ k \in R}{\mathrm{mean}}
        \max\left(0,\ \texttt{margin} - \cos_y + \cos_k\right)

    z_s^k = \eta \cos_k, \qquad \cos_k = \cos(e_s, W_k), \qquad R = \text{the rivals: new classes of largest}\ \cos_k
    """

    @dataclass(frozen=True)
    class Settings:
        """Weights of the two terms (0 turns a term off), margin, number of rivals, and initial scale of the logits."""

        features: Annotated[float, Ge(0)] = 5.0
        ranking: Annotated[float, Ge(0)] = 1.0
        margin: Annotated[float, Gt(0)] = 0.5
        rivals: Annotated[int, Ge(1)] = 2
        scale: Annotated[float, Gt(0)] = 10.0
        old_rows: Literal["fixed", "learn"] = field(default="fixed", metadata=ADDED_LATER)
        """Whether training changes the head's rows of old classes."""

    tunable = ("features", "ranking")
    needs = Needs(teacher=True, weights=True, labels="extended", start="teacher", train_embeddings=True)

    def build_connector(self, student: Shapes, teacher: Shapes) -> None:
        """Check that both embeddings have the same length; there is no connector."""
        super().build_connector(student, teacher)
        if student.taps["embedding"] != teacher.taps["embedding"]:
            raise InputError(
                f"lucir compares embeddings: {student.taps['embedding']} of the student is not "
                f"{teacher.taps['embedding']} of the teacher"
            )

    def prepare(self, student: Network, labels: Tensor, embeddings: Tensor | None) -> None:
        """Replace the linear head by a cosine head."""
        from torch.nn.functional import normalize

        from benchmark.backbones.network import CosineHead

        assert embeddings is not None
        means = losses.class_centers(normalize(embeddings, dim=1), labels, len(self.labels.student))
        rows = normalize(student.head.weight.detach(), dim=1)
        rows[self.new] = means[self.new]
        fixed = self.old if self.settings.old_rows == "fixed" else []
        student.head = self._head = CosineHead(rows, self.settings.scale, fixed)

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Return cross-entropy, the embedding term and the margin term."""
        assert teacher is not None
        s = self.settings
        terms = {"ce": losses.ce_loss(student.logits, batch.labels)}
        if s.features:
            weight = s.features * math.sqrt(len(self.old) / len(self.new))
            terms["features"] = weight * losses.feature_distillation_loss(student.embedding, teacher.embedding)
        if s.ranking:
            cosines = student.logits / self._head.scale
            terms["ranking"] = s.ranking * losses.margin_ranking_loss(
                cosines, batch.labels, self.columns(self.new, batch), s.margin, s.rivals
            )
        return terms
