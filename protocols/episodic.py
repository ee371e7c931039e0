"""The base of protocols that evaluate on episodes of novel classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from benchmark.hashing import derive_seed
from protocols.base import Protocol, Result, Score

if TYPE_CHECKING:
    from benchmark.data import ImageSet
    from benchmark.data.episodes import Episodes
    from benchmark.data.image_set import IntArray
    from benchmark.training import TrainedNetwork


class Episodic(Protocol):
    """The name gives ways and shots; the settings give queries and the split of classes."""

    @property
    def count(self) -> int:
        """Number of episodes of a run."""
        raise NotImplementedError

    def check(self, data: ImageSet) -> None:
        """Raise if there are too few novel classes, or too few images in one of them."""
        from benchmark.data.episodes import check_episodes

        data.split("train")
        novel = data.split(self.settings.split)
        check_episodes(data, novel, self.fields["way"], self.fields["shot"], self.settings.queries)

    def episodes(self, data: ImageSet, seed: int) -> Episodes:
        """Sample the episodes of a seed, the same for every method."""
        from benchmark.data.episodes import sample_episodes

        return sample_episodes(
            data, data.split(self.settings.split), way=self.fields["way"], shot=self.fields["shot"],
            query=self.settings.queries, episodes=self.count,
            seed=derive_seed(seed, "episodes", self.name, data.seed_name),
        )  # fmt: skip

    def disjoint_episodes(self, data: ImageSet, seed: int) -> Episodes:
        """Sample episodes of a seed that share no image, as many as the images allow."""
        from benchmark.data.episodes import sample_disjoint_episodes

        return sample_disjoint_episodes(
            data, data.split(self.settings.split), way=self.fields["way"], shot=self.fields["shot"],
            query=self.settings.queries, seed=derive_seed(seed, "disjoint episodes", self.name, data.seed_name),
        )  # fmt: skip

    def result(
        self,
        episodes: Episodes,
        correct: Mapping[str, IntArray],
        student: TrainedNetwork,
        teacher: TrainedNetwork,
        disjoint: Mapping[str, IntArray] | None = None,
    ) -> Result:
        """Make the result from the correct queries of each episode.

        Args:
            episodes: E episodes.
            correct: E counts by name; ``student`` is the score, the others are references.
            student: Student.
            teacher: Teacher.
            disjoint: The same counts for episodes that share no image, if they were evaluated.
        """
        import numpy as np

        scores = {
            name: _score(counts, episodes, None if disjoint is None else disjoint[name])
            for name, counts in correct.items()
        }
        arrays: dict[str, Any] = {f"correct_{name}": counts.astype(np.int32) for name, counts in correct.items()}
        arrays |= {f"disjoint_correct_{name}": counts.astype(np.int32) for name, counts in (disjoint or {}).items()}
        return Result(
            metric="accuracy",
            score=scores.pop("student"),
            n=len(episodes.classes),
            student=student,
            teacher=teacher,
            references=scores,
            arrays={"classes": episodes.classes.astype(np.int32), **arrays},
            facts={"episodes_hash": episodes.hash, "queries_per_episode": int(episodes.query[0].size)},
        )


def _score(correct: IntArray, episodes: Episodes, disjoint: IntArray | None) -> Score:
    from benchmark.statistics import class_interval, episode_interval, image_interval

    queries = episodes.query[0].size
    accuracies = correct / queries
    intervals = [episode_interval(accuracies)]
    if disjoint is not None:
        intervals.append(image_interval(disjoint / queries))
    intervals.append(class_interval(episodes.classes, accuracies))
    return Score(intervals[0].mean, tuple(intervals))
