"""Replay of exemplars."""

from __future__ import annotations

from benchmark.methods import METHODS, Needs
from benchmark.methods.ce import CrossEntropy


@METHODS.register("replay")
class Replay(CrossEntropy):
    """Train on by cross-entropy on new images and exemplars of old classes; no distillation.

    loss = CE(z_s, y) over all classes

    The student starts from the teacher's weights. The method measures the value of exemplars alone.
    """

    family = "incremental"
    equation = r"""
    \mathcal{L} = \mathrm{CE}(z_s, y), \qquad w_0 = w_t
    """

    needs = Needs(labels="extended", start="teacher")
