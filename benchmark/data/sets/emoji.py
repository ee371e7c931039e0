"""Emoji by Unicode subgroup, drawn by several designers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.data.sets import DATASETS

if TYPE_CHECKING:
    from benchmark.data import ImageSet


@DATASETS.register("emoji")
def emoji(root: Path) -> ImageSet:
    """Emoji by Unicode subgroup, drawn by several designers, 32 x 32 RGB; novel subgroups (embedded)."""
    from benchmark.data.assets import load_asset

    return load_asset("emoji", flip_invariant=True)
