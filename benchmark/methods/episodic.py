"""Base of the methods that learn from episodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from benchmark.methods import Method, Needs

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.backbones.network import Network


@dataclass(frozen=True)
class Episode:
    """A task of N classes, on a device."""

    support: Tensor
    """Normalised support images (N * K, C, H, W)."""
    support_labels: Tensor
    """Positions (N * K,) among the N classes."""
    queries: Tensor
    """Normalised query images (N * Q, C, H, W)."""
    query_labels: Tensor
    """Positions (N * Q,) among the N classes."""


class EpisodicMethod(Method):
    """Base of the methods that learn from episodes of base classes, with the ways and shots of the evaluation.

    They take as many steps as every method. A step shows at most ``training.batch_size`` images, in ``tasks`` episodes;
    images that are not support images are queries. The student's head has one output per way.
    """

    family = "episodic"
    needs = Needs(start="fresh", learns="episodes")
    head_alone: ClassVar[bool] = False
    """The support set changes the head alone; an image is then embedded once for all episodes of an evaluation."""

    @property
    def tasks(self) -> int:
        """Episodes per step, from the settings."""
        tasks: int = self.settings.tasks
        return tasks

    def passes(self, support: int, queries: int) -> int:
        """Return how many images pass through the student in one episode; an image shown twice counts twice.

        Args:
            support: Number of support images.
            queries: Number of query images.
        """
        return support + queries

    def episode_loss(self, student: Network, episode: Episode) -> dict[str, Tensor]:
        """Compute the terms of the loss for one episode.

        Returns:
            Scalar terms by name; the student minimises their sum, averaged over the episodes of a step.
        """
        raise NotImplementedError

    def answer(self, student: Network, episode: Episode) -> Tensor:
        """Classify the queries; a query's answer does not depend on the other queries.

        Args:
            student: The student in eval mode; it is not changed.
            episode: The episode.

        Returns:
            Logits (N * Q, N).
        """
        raise NotImplementedError

    def answer_embedded(self, student: Network, episode: Episode) -> Tensor:
        """Classify queries given as embeddings; used if ``head_alone``.

        Args:
            student: The student in eval mode; it is not changed.
            episode: An episode with embeddings (N * K, D) and (N * Q, D) in place of images.

        Returns:
            Logits (N * Q, N).
        """
        raise NotImplementedError
