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
    """Tell the teacher's embedding of an image from those of others. Tian et al., ICLR 2020, arXiv 1910.10699.

    loss = CE(z_s, y) + crd * -mean_i [log h(i, i) + sum_n log(1 - h(i, n))], summed over both directions, with h = x /
    (x + M / N), x = exp(<anchor, memory row> / temperature) / Z

    One direction compares the student with a memory of the teacher's embeddings of all N training images, the other the
    teacher with a memory of the student's. Trained linear heads map both embeddings to unit vectors of length
    ``width``. The memory row of an image moves by ``momentum`` when the image is in a batch. The first batch sets Z.

    The defaults (0.8, M = 16384 negatives of other classes, temperature 0.07, momentum 0.5, width 128) are those of
    RepDistiller, the authors' code, and of mdistiller. RepDistiller draws negatives on the CPU, without replacement if
    M does not exceed their number. Here they are drawn on the device with replacement, and M is at most the number of
    images outside the largest class. The 1e-7 in RepDistiller's denominators is not needed here.
    """

    family = "embeddings"
    equation = r"""
    \mathcal{L} = \mathrm{CE}(z_s, y)
      - \frac{\texttt{crd}}{B} \sum_{s \to t,\ t \to s}\ \sum_{i=1}^{B}
        \left[ \log h(i, i) + \sum_{n=1}^{M} \log\left(1 - h(i, n)\right) \right]

    h(i, n) = \frac{x}{x + M / N}, \qquad x = \frac{1}{Z} \exp \frac{\langle g^i, m^n \rangle}{\texttt{temperature}},
    \qquad M = \texttt{negatives}
    """

    @dataclass(frozen=True)
    class Settings:
        """Weight of the term, number of negatives, temperature and momentum of the memory, length of the embedding."""

        crd: Annotated[float, Ge(0)] = 0.8
        negatives: Annotated[int, Ge(1)] = 16384
        temperature: Annotated[float, Gt(0)] = 0.07
        momentum: Annotated[float, Ge(0), Lt(1)] = 0.5
        width: Annotated[int, Ge(1)] = 128

    needs = Needs(teacher=True, index=True)
    tunable = ("crd",)

    def build_connector(self, student: Shapes, teacher: Shapes) -> nn.Module:
        """Build both linear heads and the memories."""
        from benchmark.backbones.connectors import ContrastiveMemory

        (student_dim,), (teacher_dim,) = student.taps["embedding"], teacher.taps["embedding"]
        self.memory = ContrastiveMemory(student_dim, teacher_dim, self.settings.width)
        self._normalised = False
        return self.memory

    def prepare(self, student: Network, labels: Tensor, embeddings: Tensor | None) -> None:
        """Reserve a memory row for every training image, and collect the negatives of every class."""
        if not self.settings.crd:
            return
        self.memory.reserve(len(labels), labels.device)
        self._pool = losses.negative_pool(labels, len(self.labels.student))
        self._negatives = min(self.settings.negatives, len(labels) - int(self._pool.sizes.max()))

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Return cross-entropy and the contrastive term, and update the memory."""
        assert teacher is not None
        terms = {"ce": losses.ce_loss(student.logits, batch.labels)}
        if self.settings.crd:
            terms["crd"] = self.settings.crd * self._contrast(batch, student, teacher)
        return terms

    def _contrast(self, batch: Batch, student: Outputs, teacher: Outputs) -> Tensor:
        s, memory = self.settings, self.memory
        student_unit, teacher_unit = memory(student.embedding, teacher.embedding)
        negatives = losses.sample_negatives(self._pool, batch.labels, self._negatives, memory.generator)
        inputs = student_unit, teacher_unit, memory.student_memory, memory.teacher_memory, batch.index, negatives
        if not self._normalised:
            if memory.log_normalizer.isnan().any():
                memory.log_normalizer = losses.crd_log_normalizer(*inputs, temperature=s.temperature)
            self._normalised = True
        loss = losses.crd_loss(*inputs, memory.log_normalizer, temperature=s.temperature)
        # the backward pass still reads the previous memories: update copies
        memory.student_memory, memory.teacher_memory = (
            losses.update_memory_(rows.clone(), batch.index, unit.detach(), s.momentum)
            for rows, unit in ((memory.student_memory, student_unit), (memory.teacher_memory, teacher_unit))
        )
        return loss
