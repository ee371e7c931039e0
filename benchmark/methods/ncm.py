"""Class means of the frozen teacher as head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from benchmark import losses
from benchmark.methods import METHODS, Method, Needs

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Network


@METHODS.register("ncm")
class NearestClassMean(Method):
    """Assign images to the nearest class mean of the frozen teacher's embedding. A reference: nothing is trained.

    logits = <e_t, m_k>, m_k the normalised mean of normalised embeddings; or <e_t, m_k> - ||m_k||^2 / 2, m_k the mean

    The student is the teacher. The means are over the training images, without augmentation. With ``normalised``, the
    embeddings and their means have unit length; the length of e_t does not change the order of the logits. This is the
    nearest class mean of iCaRL (arXiv 1611.07725). REFILLED's code judges its first stage by means of embeddings that
    are not normalised before (arXiv 2205.01915). With ``euclidean``, the logit of the nearest mean is the largest.
    """

    family = "weights"
    equation = r"""
    z^k = \langle e_t, m_k \rangle \quad (\text{normalised}), \qquad
    z^k = \langle e_t, m_k \rangle - \frac{1}{2} \lVert m_k \rVert_2^2 \quad (\text{euclidean})
    """

    @dataclass(frozen=True)
    class Settings:
        """The distance: by the angle between unit vectors, or Euclidean."""

        head: Literal["normalised", "euclidean"] = "normalised"

    needs = Needs(start="teacher", trains="nothing", train_embeddings=True)

    def prepare(self, student: Network, labels: Tensor, embeddings: Tensor | None) -> None:
        """Write the class means into the student's head."""
        import torch
        from torch.nn.functional import normalize

        assert embeddings is not None
        classes = len(self.labels.student)
        with torch.no_grad():
            student.head.bias.zero_()
            if self.settings.head == "normalised":
                student.head.weight.copy_(losses.class_centers(normalize(embeddings, dim=1), labels, classes))
                return
            sums = torch.zeros_like(student.head.weight).index_add_(0, labels, embeddings)
            means = sums / torch.bincount(labels, minlength=classes).clamp_min(1)[:, None]
            student.head.weight.copy_(means)
            student.head.bias.copy_(-means.square().sum(1) / 2)
