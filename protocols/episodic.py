"""What protocols judged on episodes of novel classes have in common."""

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
    """N ways and K shots by the name; queries and the split of classes by the settings."""

    @property
    def count(self) -> int:
        """How many episodes a run is judged on."""
        raise NotImplementedError

    def check(self, data: ImageSet) -> None:
        """Enough novel classes, and enough images in each, for such episodes."""
        from benchmark.data.episodes import check_episodes

        data.split("train")
        novel = data.split(self.settings.split)
        check_episodes(data, novel, self.fields["way"], self.fields["shot"], self.settings.queries)

    def episodes(self, data: ImageSet, seed: int) -> Episodes:
        """The episodes of a seed: the same for every method."""
        from benchmark.data.episodes import sample_episodes

        return sample_episodes(
            data, data.split(self.settings.split), way=self.fields["way"], shot=self.fields["shot"],
            query=self.settings.queries, episodes=self.count,
            seed=derive_seed(seed, "episodes", self.name, data.name),
        )  # fmt: skip

    def disjoint_episodes(self, data: ImageSet, seed: int) -> Episodes:
        """Episodes of a seed that share no image, as many as the images allow."""
        from benchmark.data.episodes import sample_disjoint_episodes

        return sample_disjoint_episodes(
            data, data.split(self.settings.split), way=self.fields["way"], shot=self.fields["shot"],
            query=self.settings.queries, seed=derive_seed(seed, "disjoint episodes", self.name, data.name),
        )  # fmt: skip

    def result(
        self,
        drawn: Episodes,
        correct: Mapping[str, IntArray],
        student: TrainedNetwork,
        teacher: TrainedNetwork,
        disjoint: Mapping[str, IntArray] | None = None,
    ) -> Result:
        """The result of correct queries per episode, by name; ``student`` is what is judged.

        disjoint: the same for episodes that share no image, where they were judged too.
        """
        import numpy as np

        scores = {
            name: _score(counts, drawn, None if disjoint is None else disjoint[name])
            for name, counts in correct.items()
        }
        arrays: dict[str, Any] = {f"correct_{name}": counts.astype(np.int32) for name, counts in correct.items()}
        arrays |= {f"disjoint_correct_{name}": counts.astype(np.int32) for name, counts in (disjoint or {}).items()}
        return Result(
            metric="accuracy",
            score=scores.pop("student"),
            n=len(drawn.classes),
            student=student,
            teacher=teacher,
            references=scores,
            arrays={"classes": drawn.classes.astype(np.int32), **arrays},
            facts={"episodes_hash": drawn.hash, "queries_per_episode": int(drawn.query[0].size)},
        )


def _score(correct: IntArray, drawn: Episodes, disjoint: IntArray | None) -> Score:
    from benchmark.statistics import class_interval, episode_interval, image_interval

    queries = drawn.query[0].size
    accuracies = correct / queries
    intervals = [episode_interval(accuracies)]
    if disjoint is not None:
        intervals.append(image_interval(disjoint / queries))
    intervals.append(class_interval(drawn.classes, accuracies))
    return Score(intervals[0].mean, tuple(intervals))
