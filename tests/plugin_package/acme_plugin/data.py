"""A data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmark.data import ImageSet


def stripes(root: Path) -> ImageSet:
    """Noisy stripes of 20 directions, 16 x 16 grey."""
    import numpy as np

    from benchmark.data import ImageSet

    rng = np.random.default_rng(7)
    y, x = np.mgrid[:16, :16]
    labels = np.repeat(np.arange(20), 20)
    angles = np.pi * labels[:, None, None] / 20
    waves = np.sin(np.cos(angles) * x + np.sin(angles) * y + rng.uniform(0, 6, (400, 1, 1)))
    images = np.clip(128 + 60 * waves + rng.normal(0, 12, waves.shape), 0, 255).astype(np.uint8)[..., None]
    return ImageSet(
        name="acme-stripes", images=images, labels=labels, groups=np.arange(400),
        classes=tuple(f"direction {c}" for c in range(20)),
        splits={"train": tuple(range(10)), "val": tuple(range(10, 14)), "test": tuple(range(14, 20))}, background=128,
    )  # fmt: skip
