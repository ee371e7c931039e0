from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.data.dataset_store import import_dataset
from benchmark.data.published import PublishedDataset, data_set
from benchmark.system.progress import Silent

from . import layouts

SOURCES = {
    "cifar100": "cifar-100-python",
    "cub": "CUB_200_2011",
    "cub-feat": "CUB_200_2011",
    "omniglot": "omniglot",
    "miniimagenet": "miniimagenet",
    "tieredimagenet": "tiered-imagenet",
}


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small edition of every published set in its own layout."""
    folder = tmp_path_factory.mktemp("published")
    layouts.write_all(folder)
    return folder


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory, sources: Path) -> Path:
    """A data root into which all of them are imported."""
    folder = tmp_path_factory.mktemp("root")
    with layouts.small():
        for name, source in SOURCES.items():
            published = data_set(name)
            assert isinstance(published, PublishedDataset)
            import_dataset(published, folder, sources / source, {}, workers=2, progress=Silent())
    return folder
