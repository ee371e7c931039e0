"""Characters of many scripts in many typefaces."""

from __future__ import annotations

from pathlib import Path

from benchmark.data.assets import load_asset
from benchmark.data.imageset import ImageSet
from benchmark.data.sets import DATASETS


@DATASETS.register("glyphs")
def glyphs(root: Path) -> ImageSet:
    """Characters in many typefaces, 32 x 32 grey; novel scripts are never seen in training (embedded)."""
    return load_asset("glyphs", mirrors=False)
