"""Imports of small published sets, for tests."""

from __future__ import annotations

from pathlib import Path

from benchmark.data import ImageSet
from benchmark.data.dataset_store import import_dataset
from benchmark.data.published import PublishedDataset, data_set
from benchmark.system.progress import Silent


class MessageLog(Silent):
    """Keeps the messages of a command."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


def published(name: str) -> PublishedDataset:
    dataset = data_set(name)
    assert isinstance(dataset, PublishedDataset)
    return dataset


def imported(name: str, root: Path, source: Path | None, **settings: str) -> ImageSet:
    import_dataset(published(name), root, source, settings, workers=2, progress=Silent())
    return published(name)(root)


def class_names(data: ImageSet, split: str) -> list[str]:
    return [data.classes[c] for c in data.splits[split]]
