"""Methods for one step of class-incremental learning: points in five slots, one class below for each.

| method | start   | cross-entropy over           | distillation              | rebalance  | head    |
| ------ | ------- | ---------------------------- | ------------------------- | ---------- | ------- |
| replay | teacher | all                          | none                      | none       | network |
| lwf    | teacher | new classes                  | old outputs, T = 2        | none       | network |
| icarl  | teacher | all, sigmoid                 | old sigmoids              | none       | nme     |
| eeil   | teacher | all                          | old outputs, T = 2        | balanced   | network |
| wa     | teacher | all                          | old outputs, by old share | align      | network |
| lucir  | teacher | all, cosines, imprinted rows | embedding                 | by margin  | network |
| joint  | fresh   | all, all data                | none                      | none       | network |

``finetune`` is the floor among them. Any other method that applies has a start (``student.start``), and takes the last
two slots from the protocol's settings (``protocol.rebalance``, ``protocol.head``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt

from benchmark import losses
from benchmark.errors import InputError
from benchmark.methods import METHODS, Batch, IncrementalDefaults, Method, Needs, Shapes
from benchmark.methods.base import index_tensor
from benchmark.methods.ce import CrossEntropy

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Network, Outputs


class Incremental(Method):
    """Base of those that distil: which outputs are old, which new, and the teacher's term on the old ones."""

    needs = Needs(teacher=True, labels="extended", start="teacher")

    def build_connector(self, student: Shapes, teacher: Shapes) -> None:
        """None. Outputs of old and of new classes."""
        self.old, _ = self.labels.shared()
        self.new = sorted(set(range(len(self.labels.student))) - set(self.old))

    def columns(self, outputs: list[int], batch: Batch) -> Tensor:
        """The outputs as indices on the batch's device."""
        return index_tensor(tuple(outputs), batch.labels.device)

    def distilled(self, student: Outputs, teacher: Outputs | None, temperature: float) -> Tensor:
        """The tempered divergence on the old outputs."""
        assert teacher is not None
        return losses.kd_loss(*self.shared_logits(student, teacher), temperature)


@METHODS.register("replay")
class Replay(CrossEntropy):
    """Train on by cross-entropy on new images and exemplars of old classes; no distillation.

    loss = CE(z_s, y) over all classes

    The student starts from the teacher's weights: what exemplars alone are worth.
    """

    needs = Needs(labels="extended", start="teacher")


@METHODS.register("joint")
class Joint(CrossEntropy):
    """Train a fresh network by cross-entropy on all images of old and new classes: the upper bound.

    loss = CE(z_s, y) over all classes

    It is given the steps of every other method, so more images, not more training.
    """

    needs = Needs(labels="extended", start="fresh")
    incremental_defaults = IncrementalDefaults(memory="all")


@METHODS.register("lwf")
class LwF(Incremental):
    """Learning without forgetting: new classes apart, old outputs kept. Li and Hoiem 2016, arXiv 1606.09282.

    loss = CE over the new outputs on images of new classes + kd * T^2 KL(softmax(z_t / T) || softmax(z_s / T)) over the
    old outputs on all images

    Exemplars, where there are some, enter the second term only.

    Defaults (T = 2, weight 1) are the paper's; the factor T^2 is that of Hinton et al. With cross-entropy over all
    outputs, as some public codes have it, old accuracy collapses whatever the weight.
    """

    @dataclass(frozen=True)
    class Settings:
        """Weight and temperature of the divergence."""

        kd: Annotated[float, Ge(0)] = 1.0
        temperature: Annotated[float, Gt(0)] = 2.0

    tunable = ("kd",)

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Cross-entropy over the new classes and the divergence on the old ones."""
        terms = {"ce": losses.subset_cross_entropy(student.logits, batch.labels, self.columns(self.new, batch))}
        if self.settings.kd:
            terms["kd"] = self.settings.kd * self.distilled(student, teacher, self.settings.temperature)
        return terms


@METHODS.register("icarl")
class ICaRL(Incremental):
    """iCaRL: sigmoid outputs, the old ones held to the teacher's; nearest mean of exemplars. arXiv 1611.07725.

    loss = bce * mean over all outputs of BCE(sigmoid(z_s), target)

    Targets are the teacher's sigmoids for old classes and the label for new ones. Rebuffi et al., CVPR 2017. The head
    is the nearest mean of exemplars, chosen by herding.

    The default weight 20 stands for the authors' learning rate of 2, twenty times that of every method here.
    """

    @dataclass(frozen=True)
    class Settings:
        """Weight of the loss."""

        bce: Annotated[float, Gt(0)] = 20.0

    tunable = ("bce",)
    incremental_defaults = IncrementalDefaults(head="nme")

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Binary cross-entropy of all outputs."""
        assert teacher is not None
        kept = losses.sigmoid_distillation_loss(
            student.logits, self.shared_logits(student, teacher)[1], batch.labels, self.columns(self.old, batch)
        )
        return {"bce": self.settings.bce * kept}


@METHODS.register("eeil")
class EEIL(Incremental):
    """End-to-end incremental learning: distil, then balance the classes. Castro et al. 2018, arXiv 1807.09536.

    loss = CE(z_s, y) + kd * T^2 KL(softmax(z_t / T) || softmax(z_s / T)) over the old outputs

    The last part of training runs on as many images of each class at a tenth of the rate, within the steps that every
    method has.

    Defaults (T = 2, weight 1) are the paper's. There the second part distils new classes too, and both add gradient
    noise; neither is done here. A public suite's distillation is 0 in the first step, which is the only one here.
    """

    @dataclass(frozen=True)
    class Settings:
        """Weight and temperature of the divergence."""

        kd: Annotated[float, Ge(0)] = 1.0
        temperature: Annotated[float, Gt(0)] = 2.0

    tunable = ("kd",)
    incremental_defaults = IncrementalDefaults(rebalance="balanced")

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Cross-entropy over all classes and the divergence on the old ones."""
        terms = {"ce": losses.ce_loss(student.logits, batch.labels)}
        if self.settings.kd:
            terms["kd"] = self.settings.kd * self.distilled(student, teacher, self.settings.temperature)
        return terms


@METHODS.register("wa")
class WA(Incremental):
    """Weight aligning: distil, then scale the new rows of the head. Zhao et al., CVPR 2020, arXiv 1911.07053.

    loss = (1 - r) CE(z_s, y) + r T^2 KL(softmax(z_t / T) || softmax(z_s / T)) over the old outputs, r = n_old / n

    After training the head's rows of new classes are scaled to the mean norm of the old ones.

    The default T = 2 is the paper's. Its clipping of negative weights in the head is not done here.
    """

    @dataclass(frozen=True)
    class Settings:
        """Temperature of the divergence."""

        temperature: Annotated[float, Gt(0)] = 2.0

    incremental_defaults = IncrementalDefaults(rebalance="align")

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Cross-entropy over all classes and the divergence on the old ones, weighted by the share of old classes."""
        share = len(self.old) / len(self.labels.student)
        return {
            "ce": (1 - share) * losses.ce_loss(student.logits, batch.labels),
            "kd": share * self.distilled(student, teacher, self.settings.temperature),
        }


@METHODS.register("lucir")
class LUCIR(Incremental):
    """LUCIR: cosine head with imprinted rows, embeddings held to the teacher's, a margin. Hou et al., CVPR 2019.

    loss = CE(z_s, y) + features * sqrt(n_new / n_old) * mean (1 - cos(e_s, e_t)) + ranking * margin ranking of
    exemplars against the ``rivals`` nearest new classes

    Logits are a learnt scale times cosines. The rows of old
    classes are the teacher's, those of new ones start as the mean of the teacher's normalised embeddings. No arXiv
    number: Learning a Unified Classifier Incrementally via Rebalancing.

    Defaults (5, 1, margin 0.5, two rivals) are the paper's for CIFAR-100. There the first model has a cosine head too
    and the scale is learnt from its start; the teacher here is that of every method, so the scale starts at ``scale``.
    """

    @dataclass(frozen=True)
    class Settings:
        """Weights of the two terms (0 turns one off), the margin, its rivals, and the first scale of the logits."""

        features: Annotated[float, Ge(0)] = 5.0
        ranking: Annotated[float, Ge(0)] = 1.0
        margin: Annotated[float, Gt(0)] = 0.5
        rivals: Annotated[int, Ge(1)] = 2
        scale: Annotated[float, Gt(0)] = 10.0

    tunable = ("features", "ranking")
    needs = Needs(teacher=True, weights=True, labels="extended", start="teacher", train_embeddings=True)

    def build_connector(self, student: Shapes, teacher: Shapes) -> None:
        """None. Embeddings of different lengths are refused."""
        super().build_connector(student, teacher)
        if student.taps["embedding"] != teacher.taps["embedding"]:
            raise InputError(
                f"lucir compares embeddings: {student.taps['embedding']} of the student is not "
                f"{teacher.taps['embedding']} of the teacher"
            )

    def prepare(self, student: Network, labels: Tensor, embeddings: Tensor | None) -> None:
        """Put the cosine head in the linear one's place."""
        from torch.nn.functional import normalize

        from benchmark.backbones.network import CosineHead

        assert embeddings is not None
        means = losses.class_centers(normalize(embeddings, dim=1), labels, len(self.labels.student))
        rows = normalize(student.head.weight.detach(), dim=1)
        rows[self.new] = means[self.new]
        student.head = self._head = CosineHead(rows, self.settings.scale)

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Cross-entropy, the embeddings' term and the margin."""
        assert teacher is not None
        s = self.settings
        terms = {"ce": losses.ce_loss(student.logits, batch.labels)}
        if s.features:
            weight = s.features * math.sqrt(len(self.new) / len(self.old))
            terms["features"] = weight * losses.feature_distillation_loss(student.embedding, teacher.embedding)
        if s.ranking:
            cosines = student.logits / self._head.scale
            terms["ranking"] = s.ranking * losses.margin_ranking_loss(
                cosines, batch.labels, self.columns(self.new, batch), s.margin, s.rivals
            )
        return terms
