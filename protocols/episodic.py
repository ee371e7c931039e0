"""What protocols judged on episodes of novel classes have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from benchmark.spec import derive_seed
from protocols.protocol import Protocol, Result, Score

if TYPE_CHECKING:
    from benchmark.data import ImageSet
    from benchmark.data.episodes import Episodes
    from benchmark.data.imageset import IntArray
    from benchmark.training import Trained


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

    def result(self, drawn: Episodes, correct: Mapping[str, IntArray], student: Trained, teacher: Trained) -> Result:
        """The result of correct queries per episode, by name; ``student`` is what is judged."""
        import numpy as np

        scores = {name: _score(counts, drawn) for name, counts in correct.items()}
        arrays: dict[str, Any] = {f"correct_{name}": counts.astype(np.int32) for name, counts in correct.items()}
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


def _score(correct: IntArray, drawn: Episodes) -> Score:
    from benchmark.statistics import class_interval, episode_interval

    accuracies = correct / drawn.query[0].size
    intervals = episode_interval(accuracies), class_interval(drawn.classes, accuracies)
    return Score(intervals[0].mean, intervals)
