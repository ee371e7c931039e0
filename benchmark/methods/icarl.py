"""iCaRL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt

from benchmark import losses
from benchmark.methods import METHODS, Batch, IncrementalDefaults
from benchmark.methods.incremental import Incremental

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Outputs


@METHODS.register("icarl")
class ICaRL(Incremental):
    """iCaRL: sigmoid outputs, old ones distilled; nearest mean of exemplars. arXiv 1611.07725.

    loss = bce * mean over all outputs of BCE(sigmoid(z_s), target)

    The targets are the teacher's sigmoids for old classes and the label for new ones. The classifier is the nearest
    mean of exemplars, chosen by herding. Rebuffi et al., CVPR 2017.

    The default weight 20 stands for the authors' learning rate of 2, twenty times that of every method here; per rate
    of 0.1 their weight decay is 4e-4. In their code the old network learns by binary cross-entropy too; here all
    methods share one teacher, which learns by cross-entropy unless ``teacher.loss`` is bce. There the mean is over all
    outputs of all steps from the start, so that new outputs first learn to be 0; here it is over the classes seen so
    far. Their means are over the exemplars and their mirror images, as here (``protocol.mirrored_means``). Their
    network has no last ReLU, as ``resnet32-signed``, but shortcuts without parameters. PyCIL's icarl is another loss:
    CE and KD.
    """

    equation = r"""
    \mathcal{L} = \frac{\texttt{bce}}{B K} \sum_{i=1}^{B} \sum_{k=1}^{K} \mathrm{BCE}\left(s(z_s^{ik}),\ g^{ik}\right),
    \qquad
    g^{ik} = \begin{cases} s(z_t^{ik}) & k\ \text{old} \\
      1\ \text{if}\ y^i = k,\ \text{else}\ 0 & k\ \text{new} \end{cases},
    \qquad s(u) = \frac{1}{1 + e^{-u}}
    """

    @dataclass(frozen=True)
    class Settings:
        """Weight of the loss."""

        bce: Annotated[float, Gt(0)] = 20.0

    tunable = ("bce",)
    incremental_defaults = IncrementalDefaults(head="nme")

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Return the binary cross-entropy of all outputs."""
        assert teacher is not None
        loss = losses.sigmoid_distillation_loss(
            student.logits, self.shared_logits(student, teacher)[1], batch.labels, self.columns(self.old, batch)
        )
        return {"bce": self.settings.bce * loss}
