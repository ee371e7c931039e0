"""A small synthetic set for tests and smoke runs."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.data.sets import DATASETS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from benchmark.data import ImageSet

CLASSES, IMAGES, SIZE = 30, 24, 16


@DATASETS.register("tiny")
def tiny(root: Path) -> ImageSet:
    """Synthetic colour patterns, 16 x 16, 30 classes of 24 images in pairs of near-duplicates: for smoke runs."""
    import numpy as np

    from benchmark.data import ImageSet

    count = CLASSES * IMAGES
    return ImageSet(
        name="tiny",
        images=_patterns().copy(),
        labels=np.repeat(np.arange(CLASSES), IMAGES),
        groups=np.arange(count) // 2,
        classes=tuple(f"pattern {c}" for c in range(CLASSES)),
        splits={"train": tuple(range(18)), "val": tuple(range(18, 24)), "test": tuple(range(24, 30))},
        background=128,
        flip_invariant=False,
    )


@functools.cache
def _patterns() -> npt.NDArray[np.uint8]:
    """Draw the images. The result is cached, because smoke runs load the set many times."""
    import numpy as np

    rng = np.random.default_rng(20_22)
    axis = np.arange(SIZE) / SIZE
    waves = np.stack([np.cos(np.pi * k * (axis + 0.5 / SIZE)) for k in range(5)])
    images = np.empty((CLASSES, IMAGES, SIZE, SIZE, 3), np.uint8)
    for c in range(CLASSES):
        prototype = rng.normal(size=(3, 5, 5))
        for pair in range(IMAGES // 2):
            shape = prototype + 0.55 * rng.normal(size=prototype.shape)
            for twin in range(2):
                near = shape + 0.05 * rng.normal(size=shape.shape)
                picture = np.roll(np.einsum("cij,iy,jx->yxc", near, waves, waves), rng.integers(-3, 4, 2), (0, 1))
                images[c, 2 * pair + twin] = np.clip(128 + 24 * picture, 0, 255).astype(np.uint8)
    return images.reshape(-1, SIZE, SIZE, 3)
