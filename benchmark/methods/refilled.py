"""REFILLED: relationship matching, then a local classifier made of the teacher's embedding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le

from benchmark import losses
from benchmark.methods import METHODS, Batch, Method, Needs, Stage

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Network, Outputs


@METHODS.register("refilled")
class Refilled(Method):
    """REFILLED: relationship matching, then a local classifier. Ye, Lu, Zhan, TPAMI 2022, arXiv 2205.01915.

    loss = tuple_weight * mean KL(P_t || P_s), P = softmax(-distances / tuple_temperature), in stage 1 (embedding)

    loss = CE(z_s, y) + local * exp(-local_decay * progress) * mean w KL(softmax(<e_t, c_k> / local_temperature) ||
    softmax(z_s / student_temperature)) in stage 2 (classifier)

    Stage 1: the student's embedding learns the teacher's comparisons. Tuples of an anchor, a positive and its semi-hard
    negatives (by student distance, within ``margin``) are scored by both. No cross-entropy.

    Stage 2 starts from the stage-1 weights with a fresh head; both distributions are over the classes of the batch. The
    centres c_k are unit class means of the teacher's embeddings over the student's training images (``centers`` global)
    or over the batch; w falls with the teacher's doubt (``adaptive``), which its own head tells; ``local_mean``
    elements divides by the number of the batch's classes as well.

    Neither stage asks for common classes: the teacher compares instances. Defaults are those of the TPAMI paper's code
    (margin 0.2, temperatures 4 and 1, weights 1000 and 1; equal lengths of the stages; stage 1's rate ends at a tenth);
    the adaptive weights are its ``wgkd``, without them it is its ``gkd``. Known divergences from that code: its tuples
    are ``truncate`` with an arbitrary order of negatives, where ``mask`` is the paper's intent; stage 2's rate follows
    a cosine to 0 unless the run has milestones (``training.milestones``), there it falls to a fifth three times; it
    selects the best epoch on the test set, and nothing is selected here. A batch without a tuple has gradient 0, while
    weight decay and momentum go on; there it makes no step.
    """

    @dataclass(frozen=True)
    class Settings:
        """Of stage 1: tuples, margin (``triplet`` has none), tuple_temperature, tuple_weight; of stage 2: the rest."""

        embedding_share: Annotated[float, Ge(0), Le(1)] = 0.5
        """Share of the training steps that stage 1 takes; 0 leaves it out, 1 leaves stage 2 out."""
        tuples: Literal["mask", "truncate", "triplet"] = "mask"
        margin: Annotated[float, Gt(0)] = 0.2
        tuple_temperature: Annotated[float, Gt(0)] = 4.0
        tuple_weight: Annotated[float, Gt(0)] = 1000.0
        local: Annotated[float, Ge(0)] = 1.0
        local_decay: Annotated[float, Ge(0)] = 0.0
        """The weight of the local classifier falls by exp(-local_decay) over stage 2."""
        local_mean: Literal["samples", "elements"] = "samples"
        local_temperature: Annotated[float, Gt(0)] = 1.0
        student_temperature: Annotated[float, Gt(0)] = 1.0
        centers: Literal["global", "batch"] = "global"
        adaptive: bool = True

    needs = Needs(teacher=True, train_embeddings=True)
    tunable = ("tuple_weight", "local")

    def stages(self) -> list[Stage]:
        """The embedding stage and the classifier stage."""
        share = self.settings.embedding_share
        stages = [
            Stage("embedding", share, final_lr=0.1, head=False),
            Stage("classifier", 1 - share, reset_head=share > 0, teacher=self.settings.local > 0),
        ]
        return [stage for stage in stages if stage.share > 0]

    @property
    def reads_train_embeddings(self) -> bool:
        """For global centres, where there is a local term to use them."""
        s = self.settings
        return s.centers == "global" and s.local > 0 and s.embedding_share < 1

    def prepare(self, student: Network, labels: Tensor, embeddings: Tensor | None) -> None:
        """Class centres from the teacher's embeddings of the training images."""
        if embeddings is not None:
            self.centers = losses.class_centers(embeddings, labels, len(self.labels.student))

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """The terms of the stage at hand."""
        s = self.settings
        if batch.stage == "embedding":
            assert teacher is not None
            matching = losses.tuple_matching_loss(
                student.embedding, teacher.embedding, batch.labels,
                temperature=s.tuple_temperature, margin=s.margin, tuples=s.tuples, weight=s.tuple_weight,
            )  # fmt: skip
            return {"tuples": matching}
        terms = {"ce": losses.ce_loss(student.logits, batch.labels)}
        if s.local:
            assert teacher is not None
            terms["local"] = self._local(batch, student, teacher)
        return terms

    def _local(self, batch: Batch, student: Outputs, teacher: Outputs) -> Tensor:
        s, classes = self.settings, len(self.labels.student)
        in_batch = s.centers == "batch"
        loss = losses.local_classifier_loss(
            student.logits / s.student_temperature,
            teacher.embedding,
            losses.class_centers(teacher.embedding, batch.labels, classes) if in_batch else self.centers,
            batch.labels,
            temperature=s.local_temperature,
            weights=losses.adaptive_weights(teacher.logits) if s.adaptive else None,
        )
        if s.local_mean == "elements":
            # counted on the device: reading the number would make the host wait
            loss = loss / student.logits.new_zeros(classes).index_fill(0, batch.labels, 1.0).sum()
        return s.local * math.exp(-s.local_decay * batch.progress) * loss
