"""Joint training on old and new classes."""

from __future__ import annotations

from benchmark.methods import METHODS, IncrementalDefaults, Needs
from benchmark.methods.ce import CrossEntropy


@METHODS.register("joint")
class Joint(CrossEntropy):
    """Train a fresh network by cross-entropy on all images of old and new classes: the upper bound.

    loss = CE(z_s, y) over all classes

    It has the steps of every method: more images, not more training.
    """

    family = "incremental"
    equation = r"""
    \mathcal{L} = \mathrm{CE}(z_s, y)
    """

    needs = Needs(labels="extended", start="fresh")
    incremental_defaults = IncrementalDefaults(memory="all")
