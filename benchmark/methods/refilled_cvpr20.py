"""REFILLED as first published."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from benchmark.methods import METHODS
from benchmark.methods.refilled import Refilled
from benchmark.settings import ADDED_LATER


@METHODS.register("refilled-cvpr20")
class RefilledCVPR20(Refilled):
    """REFILLED of CVPR 2020: triplets, batch centres, a decaying local term. Ye, Lu, Zhan; later arXiv 2205.01915.

    "Distilling Cross-Task Knowledge via Relationship Matching".

    loss = tuple_weight / 2 * mean KL of the two Bernoulli distributions of triplets, in stage 1

    loss = CE(z_s, y) + 1000 exp(-0.05 epoch) / (B |C_B|) * sum KL(softmax(<e_t, c_k> / 2) || softmax(z_s / 2)) in stage
    2

    It is ``refilled`` with other defaults. In stage 1 every positive pair has one negative: the closest one that is
    farther than the positive. The factor 1/2 is that of the released code, whose mean divides by twice the number of
    triplets. In stage 2 the centres are those of the batch, and there are no adaptive weights.

    Stage 2 stands for 200 epochs: exp(-0.05 epoch) = exp(-10 progress), falling by the step. The rate is constant in
    stage 1, as in the released code. In stage 2 it falls there to a tenth after epoch 100 and to a hundredth after
    epoch 140; here it follows a cosine to 0 unless the run has milestones (``training.milestones``). That code starts
    its networks by Xavier's rule; here they start as every student does.
    """

    equation = r"""
    \mathcal{L}_1 = \frac{\texttt{tuple\_weight}}{2}\ \underset{(a, p)}{\mathrm{mean}}\,
      \mathrm{KL}\left(\mathrm{Bern}(q_t^{ap}) \,\|\, \mathrm{Bern}(q_s^{ap})\right),
    \qquad
    q^{ap} = \frac{1}{1 + \exp\left( - (d^{an} - d^{ap}) / \texttt{tuple\_temperature} \right)}

    \mathcal{L}_2 = \mathrm{CE}(z_s, y)
      + \frac{\texttt{local}\ e^{- \texttt{local\_decay} \cdot \mathrm{progress}}}{B\,|C_B|} \sum_{i=1}^{B}
        \mathrm{KL}\left(Q_t^i \,\|\, Q_s^i\right)

    Q_t^i = \sigma\left(
      \frac{\left(\langle e_t^i, c_k \rangle\right)_{k \in C_B}}{\texttt{local\_temperature}} \right),
    \qquad
    Q_s^i = \sigma\left( \frac{\left(z_s^{ik}\right)_{k \in C_B}}{\texttt{student\_temperature}} \right)
    """

    @dataclass(frozen=True)
    class Settings(Refilled.Settings):
        """The settings of ``refilled`` with other defaults."""

        tuples: Literal["mask", "truncate", "triplet"] = "triplet"
        local: Annotated[float, Ge(0)] = 1000.0
        local_decay: Annotated[float, Ge(0)] = 0.05 * 200
        local_mean: Literal["samples", "elements"] = "elements"
        local_temperature: Annotated[float, Gt(0)] = 2.0
        student_temperature: Annotated[float, Gt(0)] = 2.0
        centers: Literal["global", "batch"] = "batch"
        adaptive: bool = False
        embedding_final_lr: Annotated[float, Gt(0), Le(1)] = field(default=1.0, metadata=ADDED_LATER)
