from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmark.data import DATASETS, ImageSet

torch.set_num_threads(1)  # the networks here are too small to share, and tests may run side by side


@pytest.fixture(scope="session")
def tiny() -> ImageSet:
    """The synthetic set."""
    return DATASETS.get("tiny").entry(Path())


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
