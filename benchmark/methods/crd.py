"""Contrastive representation distillation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Lt

from benchmark import losses
from benchmark.methods import METHODS, Batch, Method, Needs, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmark.backbones.network import Network, Outputs


@METHODS.register("crd")
class CRD(Method):
    """Tell the teacher's view of an image from its views of others. Tian et al., ICLR 2020, arXiv 1910.10699.

    loss = CE(z_s, y) + crd * -mean_i [log h(i, i) + sum_n log(1 - h(i, n))], summed over both directions, with h = x /
    (x + M / N), x = exp(<anchor, memory row> / temperature) / Z

    The directions are the student against a memory of the teacher's embeddings of all N training images, and the
    reverse. Linear heads, trained along, lead both embeddings to unit vectors of ``width``; a memory row moves by
    ``momentum`` when its image is met; Z is set by the first batch.

    Defaults (0.8, M = 16384 negatives of other classes, temperature 0.07, momentum 0.5, width 128) are those of
    RepDistiller, the authors' code, and of mdistiller. RepDistiller draws negatives on the CPU without replacement, and
    with it where M exceeds their number; here they are drawn on the device with replacement, and M is at most the
    number of images outside the largest class. The 1e-7 in its denominators is not needed here.
    """

    @dataclass(frozen=True)
    class Settings:
        """Weight of the term, number of negatives, temperature and momentum of the memory, width of the embedding."""

        crd: Annotated[float, Ge(0)] = 0.8
        negatives: Annotated[int, Ge(1)] = 16384
        temperature: Annotated[float, Gt(0)] = 0.07
        momentum: Annotated[float, Ge(0), Lt(1)] = 0.5
        width: Annotated[int, Ge(1)] = 128

    needs = Needs(teacher=True, index=True)
    tunable = ("crd",)

    def build_connector(self, student: Shapes, teacher: Shapes) -> nn.Module:
        """Both linear heads and the memories."""
        from benchmark.backbones.connectors import ContrastiveMemory

        (ours,), (theirs,) = student.taps["embedding"], teacher.taps["embedding"]
        self.memory = ContrastiveMemory(ours, theirs, self.settings.width)
        self._normalised = False
        return self.memory

    def prepare(self, student: Network, labels: Tensor, embeddings: Tensor | None) -> None:
        """A row of memory for every training image, and which of them are negatives of whom."""
        if not self.settings.crd:
            return
        self.memory.reserve(len(labels), labels.device)
        self._pool = losses.negative_pool(labels, len(self.labels.student))
        self._negatives = min(self.settings.negatives, len(labels) - int(self._pool.sizes.max()))

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Cross-entropy and the contrast; moves the memory."""
        assert teacher is not None
        terms = {"ce": losses.ce_loss(student.logits, batch.labels)}
        if self.settings.crd:
            terms["crd"] = self.settings.crd * self._contrast(batch, student, teacher)
        return terms

    def _contrast(self, batch: Batch, student: Outputs, teacher: Outputs) -> Tensor:
        s, memory = self.settings, self.memory
        ours, theirs = memory(student.embedding, teacher.embedding)
        negatives = losses.sample_negatives(self._pool, batch.labels, self._negatives, memory.generator)
        sides = ours, theirs, memory.student_memory, memory.teacher_memory, batch.index, negatives
        if not self._normalised:
            if memory.log_normalizer.isnan().any():
                memory.log_normalizer = losses.crd_log_normalizer(*sides, temperature=s.temperature)
            self._normalised = True
        loss = losses.crd_loss(*sides, memory.log_normalizer, temperature=s.temperature)
        # the backward pass still reads the memories of before, so the moved ones are copies
        memory.student_memory, memory.teacher_memory = (
            losses.update_memory_(rows.clone(), batch.index, side.detach(), s.momentum)
            for rows, side in ((memory.student_memory, ours), (memory.teacher_memory, theirs))
        )
        return loss
