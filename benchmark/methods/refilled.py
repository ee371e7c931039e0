"""REFILLED: relationship matching, then a local classifier."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le

from benchmark import losses
from benchmark.methods import METHODS, Batch, Method, Needs, Stage
from benchmark.settings import ADDED_LATER

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Network, Outputs


@METHODS.register("refilled")
class Refilled(Method):
    """REFILLED: relationship matching, then a local classifier. Ye, Lu, Zhan, TPAMI 2022, arXiv 2205.01915.

    loss = tuple_weight * mean KL(P_t || P_s), P = softmax(-distances / tuple_temperature), in stage 1 (embedding)

    loss = CE(z_s, y) + local * exp(-local_decay * progress) * mean w KL(softmax(<e_t, c_k> / local_temperature) ||
    softmax(z_s / student_temperature)) in stage 2 (classifier)

    Stage 1: the student's embedding learns the teacher's comparisons. Both networks score tuples of an anchor, a
    positive and its semi-hard negatives (by student distance, within ``margin``). There is no cross-entropy.

    Stage 2 starts from the weights of stage 1 with a fresh head. Both distributions are over the classes of the batch.
    The centres c_k are unit class means of the teacher's embeddings, over all training images of the student or over
    the batch (``centers``). Over all images they are computed once, from a random crop of each image or from the image
    itself (``center_images``). With ``adaptive``, the weight w falls with the uncertainty of the teacher's own head.
    With ``local_mean`` = elements, the sum is also divided by the number of classes in the batch.

    Neither stage needs common classes: the teacher compares instances. The defaults are those of the TPAMI paper's
    code: margin 0.2, temperatures 4 and 1, weights 1000 and 1, stages of equal length, and a rate that falls to a tenth
    in stage 1 (``embedding_final_lr``). The adaptive weights are its ``wgkd``; without them the loss is its ``gkd``.

    Known differences from that code: (1) its tuples are ``truncate`` with an arbitrary order of negatives; ``mask`` is
    the paper's intent. (2) Its rate in stage 2 falls to a fifth three times; here it follows a cosine to 0 unless the
    run has milestones (``training.milestones``). (3) It selects the best epoch on the test set; here nothing is
    selected. (4) It makes no step for a batch without a tuple; here the gradient is 0, and weight decay and momentum
    still apply.
    """

    family = "instance comparisons"
    equation = r"""
    \mathcal{L}_1 = \frac{\texttt{tuple\_weight}}{|\mathcal{M}|} \sum_{(a, p) \in \mathcal{M}}
      \mathrm{KL}\left(P_t^{ap} \,\|\, P_s^{ap}\right),
    \qquad
    P^{ap} = \sigma\left(
      - \frac{\left(d^{ap},\ d^{an_1},\ \ldots,\ d^{an_K}\right)}{\texttt{tuple\_temperature}} \right)

    d^{ij} = \left\lVert \frac{e^i}{\lVert e^i \rVert_2} - \frac{e^j}{\lVert e^j \rVert_2} \right\rVert_2,
    \qquad
    \{n_1, \ldots, n_K\} = \left\{ n : y^n \neq y^a,\ 0 < d_s^{an} - d_s^{ap} \leq \texttt{margin} \right\}

    \mathcal{L}_2 = \mathrm{CE}(z_s, y)
      + \texttt{local}\ e^{- \texttt{local\_decay} \cdot \mathrm{progress}}\ \frac{1}{B} \sum_{i=1}^{B} w^i\,
        \mathrm{KL}\left(Q_t^i \,\|\, Q_s^i\right)

    Q_t^i = \sigma\left(
      \frac{\left(\langle e_t^i, c_k \rangle\right)_{k \in C_B}}{\texttt{local\_temperature}} \right),
    \qquad
    Q_s^i = \sigma\left( \frac{\left(z_s^{ik}\right)_{k \in C_B}}{\texttt{student\_temperature}} \right)

    w^i = \frac{2}{1 + e^{\tilde{l}^i}}, \qquad \tilde{l} = \frac{l - \min l}{\max l - \min l},
    \qquad l^i = - \log \max_k\ \sigma(z_t^i)_k

    c_k = \frac{\bar{e}_k}{\lVert \bar{e}_k \rVert_2}, \qquad \bar{e}_k = \underset{y^i = k}{\mathrm{mean}}\ e_t^i
    """

    @dataclass(frozen=True)
    class Settings:
        """Stage 1: tuples, margin (unused by ``triplet``), tuple_temperature, tuple_weight. Stage 2: the others."""

        embedding_share: Annotated[float, Ge(0), Le(1)] = 0.5
        """Share of the training steps of stage 1; 0 omits it, 1 omits stage 2."""
        tuples: Literal["mask", "truncate", "triplet"] = "mask"
        margin: Annotated[float, Gt(0)] = 0.2
        tuple_temperature: Annotated[float, Gt(0)] = 4.0
        tuple_weight: Annotated[float, Gt(0)] = 1000.0
        local: Annotated[float, Ge(0)] = 1.0
        local_decay: Annotated[float, Ge(0)] = 0.0
        """The weight of the local classifier falls by the factor exp(-local_decay) over stage 2."""
        local_mean: Literal["samples", "elements"] = "samples"
        local_temperature: Annotated[float, Gt(0)] = 1.0
        student_temperature: Annotated[float, Gt(0)] = 1.0
        centers: Literal["global", "batch"] = "global"
        adaptive: bool = True
        center_images: Literal["augmented", "plain"] = field(default="augmented", metadata=ADDED_LATER)
        """Images of global centres. Where many students train together, ``augmented`` is all crops of an image."""
        embedding_final_lr: Annotated[float, Gt(0), Le(1)] = field(default=0.1, metadata=ADDED_LATER)
        """Learning rate at the end of stage 1, as a share of that at its start, reached by a cosine."""

    needs = Needs(teacher=True, train_embeddings=True)
    tunable = ("tuple_weight", "local")

    def stages(self) -> list[Stage]:
        """Return the embedding stage and the classifier stage."""
        share = self.settings.embedding_share
        stages = [
            Stage("embedding", share, final_lr=self.settings.embedding_final_lr, head=False),
            Stage("classifier", 1 - share, reset_head=share > 0, teacher=self.settings.local > 0),
        ]
        return [stage for stage in stages if stage.share > 0]

    @property
    def reads_train_embeddings(self) -> bool:
        """True for global centres, if a stage has a local term."""
        s = self.settings
        return s.centers == "global" and s.local > 0 and s.embedding_share < 1

    @property
    def augments_train_embeddings(self) -> bool:
        """True for centres of augmented images."""
        return self.settings.center_images == "augmented"

    def prepare(self, student: Network, labels: Tensor, embeddings: Tensor | None) -> None:
        """Compute the class centres from the teacher's embeddings of the training images."""
        if embeddings is not None:
            self.centers = losses.class_centers(embeddings, labels, len(self.labels.student))

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Return the terms of the batch's stage."""
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
