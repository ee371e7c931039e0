"""A trained or pretrained network."""

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
    """A network in eval mode.

    Attributes:
        network: The network.
        task: Its task; a pretrained teacher was not trained on it.
        normalisation: Its input statistics.
        metadata: What the record says about it.
        embedding_cache: Cached embeddings of a pretrained teacher; None for networks trained here.
        episodic_method: Method whose own head answers episodes; None if its embedding is evaluated.
    """

    network: Network
    task: Task
    normalisation: Normalisation
    metadata: dict[str, Any]
    embedding_cache: EmbeddingCache | None = None
    episodic_method: EpisodicMethod | None = None

    @property
    def classes(self) -> tuple[int, ...]:
        """Classes of the data set that the outputs stand for; none if the teacher is pretrained."""
        return () if self.embedding_cache is not None else self.task.classes


def required(teacher: TrainedNetwork | None) -> TrainedNetwork:
    """Return the teacher of a run that reads one."""
    assert teacher is not None, "the run reads a teacher and has none"
    return teacher
