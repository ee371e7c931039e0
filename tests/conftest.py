from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmark.data import DATASETS, ImageSet

torch.set_num_threads(1)  # the networks here are too small to share, and tests may run side by side


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first: at the end one of them would keep everybody waiting."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def tiny() -> ImageSet:
    """The synthetic set."""
    return DATASETS.get("tiny").entry(Path())


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.default_generator.manual_seed(0)
