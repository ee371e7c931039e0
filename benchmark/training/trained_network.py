"""A network that a workshop has made or fetched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmark.backbones.network import Network
from benchmark.data.augmentation import Normalisation
from benchmark.data.task import Task
from benchmark.methods.episodic import EpisodicMethod
from benchmark.training.embedding_cache import EmbeddingCache


@dataclass(frozen=True)
class TrainedNetwork:
    """A network in eval mode, its input statistics and facts for the record.

    task: what it was trained on; a pretrained teacher was not, and stands in for one that was. views: what such a
    teacher has made of images before; None for networks trained here. adapts: the method by which it answers episodes,
    where it adapts to each; else its embedding is judged.
    """

    network: Network
    task: Task
    normalisation: Normalisation
    facts: dict[str, Any]
    views: EmbeddingCache | None = None
    adapts: EpisodicMethod | None = None

    @property
    def classes(self) -> tuple[int, ...]:
        """The classes of the data set that its outputs stand for; none for a pretrained teacher's own."""
        return () if self.views is not None else self.task.classes
