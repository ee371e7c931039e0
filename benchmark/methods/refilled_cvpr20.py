"""REFILLED as first published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt

from benchmark.methods import METHODS
from benchmark.methods.refilled import Refilled


@METHODS.register("refilled-cvpr20")
class RefilledCVPR20(Refilled):
    """REFILLED of CVPR 2020: triplets, batch centres, a decaying local term. Ye, Lu, Zhan; later arXiv 2205.01915.

    "Distilling Cross-Task Knowledge via Relationship Matching".

    loss = tuple_weight / 2 * mean KL of the two Bernoulli distributions of triplets, in stage 1

    loss = CE(z_s, y) + 1000 exp(-0.05 epoch) / (B |C_B|) * sum KL(softmax(<e_t, c_k> / 2) || softmax(z_s / 2)) in stage
    2

    ``refilled`` with other defaults. In stage 1 every positive pair takes one negative, the closest that is farther;
    the half is that of the released code, whose mean divides by twice the number. In stage 2 the centres are those of
    the mini-batch and no weights are adaptive.

    Epochs become progress through stage 2, which stands for 200 epochs: exp(-0.05 epoch) = exp(-10 progress), falling
    by the step. 200 is the length of stage 2 in the later paper's code; the number of the first was not at hand. What
    is not named here is as in ``refilled``.
    """

    @dataclass(frozen=True)
    class Settings(Refilled.Settings):
        """Those of ``refilled``."""

        tuples: Literal["mask", "truncate", "triplet"] = "triplet"
        local: Annotated[float, Ge(0)] = 1000.0
        local_decay: Annotated[float, Ge(0)] = 0.05 * 200
        local_mean: Literal["samples", "elements"] = "elements"
        local_temperature: Annotated[float, Gt(0)] = 2.0
        student_temperature: Annotated[float, Gt(0)] = 2.0
        centers: Literal["global", "batch"] = "batch"
        adaptive: bool = False
