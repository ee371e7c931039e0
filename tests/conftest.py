from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from benchmark.data import DATASETS, ImageSet

torch.set_num_threads(1)  # the networks here are too small to share, and tests may run side by side


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run long tests first, so that no worker waits for one of them at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests that need a GPU where there is none."""
    if item.get_closest_marker("cuda") is not None and not torch.cuda.is_available():
        pytest.skip("there is no CUDA GPU")


@pytest.fixture(scope="session")
def tiny() -> ImageSet:
    """The synthetic set."""
    return DATASETS.get("tiny").entry(Path())


@pytest.fixture(scope="session")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One data root whose teachers all tests and workers share: they are locked and named by their content."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    return folder / "shared"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.default_generator.manual_seed(0)
