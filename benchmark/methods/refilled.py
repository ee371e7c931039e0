"""REFILLED: relationship matching, then a local classifier made of the teacher's embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le

from benchmark import losses
from benchmark.methods import METHODS, Batch, Method, Needs, Stage

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Outputs


@METHODS.register("refilled")
class Refilled(Method):
    """Relationship matching with adaptive weights. Ye, Lu, Zhan: CVPR 2020; TPAMI 2022, arXiv 2205.01915.

    Stage 1 (embedding): the student's embedding learns the teacher's comparisons. Tuples of an anchor, a positive and
    its semi-hard negatives (by student distance, within ``margin``) are scored by both; the loss is ``tuple_weight *
    mean KL(P_T || P_S)`` with P = softmax(-distance / tuple_temperature). No cross-entropy.

    Stage 2 (classifier), from the stage-1 weights with a fresh head: CE(z_s, y) + local * mean w KL between the
    teacher's nearest-centre classifier over the batch's classes and the student's logits of the same classes. Centres
    are the teacher's class means over the student's training images; w falls with the teacher's uncertainty
    (``adaptive``).

    Neither stage asks for common classes: the teacher compares instances. Defaults are those of the TPAMI paper's code
    (margin 0.2, temperatures 4 and 1, weights 1000 and 1; equal lengths of the stages; stage 1's rate ends at 0.1).
    """

    @dataclass(frozen=True)
    class Settings:
        """Of the first stage: margin, tuples, tuple_temperature, tuple_weight; of the second: the others."""

        embedding_share: Annotated[float, Ge(0), Le(1)] = 0.5
        """Share of the training steps that stage 1 takes; 0 leaves it out, 1 leaves stage 2 out."""
        tuples: Literal["mask", "truncate", "triplet"] = "mask"
        margin: Annotated[float, Gt(0)] = 0.2
        tuple_temperature: Annotated[float, Gt(0)] = 4.0
        tuple_weight: Annotated[float, Gt(0)] = 1000.0
        local: Annotated[float, Ge(0)] = 1.0
        local_temperature: Annotated[float, Gt(0)] = 1.0
        adaptive: bool = True

    needs = Needs(teacher=True, train_embeddings=True)

    def stages(self) -> list[Stage]:
        """The embedding stage and the classifier stage."""
        share = self.settings.embedding_share
        stages = [Stage("embedding", share, final_lr=0.1), Stage("classifier", 1 - share, fresh_head=share > 0)]
        return [stage for stage in stages if stage.share > 0]

    def prepare(self, embeddings: Tensor, labels: Tensor) -> None:
        """Class centres from the teacher's embeddings of the training images."""
        self.centers = losses.class_centers(embeddings, labels, len(self.labels.student))

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """The terms of the stage at hand."""
        from torch.nn.functional import cross_entropy

        assert teacher is not None
        s = self.settings
        if batch.stage == "embedding":
            matching = losses.tuple_matching_loss(
                student.embedding, teacher.embedding, batch.labels,
                temperature=s.tuple_temperature, margin=s.margin, tuples=s.tuples, weight=s.tuple_weight,
            )  # fmt: skip
            return {"tuples": matching}
        terms = {"ce": cross_entropy(student.logits, batch.labels)}
        if s.local:
            weights = losses.adaptive_weights(teacher.logits) if s.adaptive else None
            terms["local"] = s.local * losses.local_classifier_loss(
                student.logits,
                teacher.embedding,
                self.centers,
                batch.labels,
                temperature=s.local_temperature,
                weights=weights,
            )
        return terms
