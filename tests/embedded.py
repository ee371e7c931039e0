"""Names of the data sets that ship with the suite."""

from __future__ import annotations

from benchmark.data import DATASETS
from benchmark.data.published import PublishedDataset

EMBEDDED = tuple(name for name in DATASETS.names() if not isinstance(DATASETS.get(name).entry, PublishedDataset))
