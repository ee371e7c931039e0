"""Emoji by Unicode subgroup, drawn by several designers."""

from __future__ import annotations

from pathlib import Path

from benchmark.data.assets import load_asset
from benchmark.data.imageset import ImageSet
from benchmark.data.sets import DATASETS


@DATASETS.register("emoji")
def emoji(root: Path) -> ImageSet:
    """Emoji by Unicode subgroup, drawn by several designers, 32 x 32 RGB; novel subgroups (embedded)."""
    return load_asset("emoji", mirrors=True)
