"""Characters of many scripts in many typefaces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.data.sets import DATASETS

if TYPE_CHECKING:
    from benchmark.data import ImageSet


@DATASETS.register("glyphs")
def glyphs(root: Path) -> ImageSet:
    """Characters in many typefaces, 32 x 32 grey; novel scripts are never seen in training (embedded)."""
    from benchmark.data.assets import load_asset

    return load_asset("glyphs", flip_invariant=False)
