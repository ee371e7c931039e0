"""Episodic few-shot classification of novel classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt

from benchmark.methods import TransferContext
from protocols import PROTOCOLS, Result
from protocols.episodic import Episodic

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.data import ImageSet, Task
    from benchmark.data.episodes import Episodes
    from benchmark.data.image_set import IntArray
    from benchmark.methods.requirements import Start
    from benchmark.training import TrainedNetwork, Trainer


@PROTOCOLS.register(
    "fewshot-{way}way{shot}shot",
    examples=("fewshot-5way1shot", "fewshot-5way5shot", "fewshot-10way1shot", "fewshot-20way5shot"),
)
class FewShot(Episodic):
    """Distil on base classes, classify episodes of novel classes by nearest centroids of the student's embedding.

    A teacher learns the base classes by cross-entropy. The method distils a student on the same base classes. The
    student's embedding is evaluated on N-way K-shot episodes of classes that neither has seen. The head is the nearest
    centroid of the support embeddings, L2-normalised unless ``head`` is ``euclidean``. The episodes depend on protocol,
    data set and seed alone. References: the teacher and raw pixels on the same episodes. A method that learns from
    episodes answers them by its own head; its reference ``common_head`` is the head of all other methods.
    """

    @dataclass(frozen=True)
    class Settings:
        """Episodes and their head."""

        episodes: Annotated[int, Ge(2)] = 10_000
        """Number of episodes."""
        queries: Annotated[int, Ge(1)] = 15
        """Queries per class."""
        head: Literal["normalised", "euclidean"] = "normalised"
        """Distance to the centroids."""
        split: Literal["test", "val"] = "test"
        """Novel classes that are evaluated."""
        held_out: Annotated[float, Gt(0), Lt(1)] = 0.1
        """Share of the base images held out of training."""

    trial = {"split": "val", "episodes": 1000}  # noqa: RUF012
    tuned_at = "fewshot-5way1shot"
    reads_teacher = False
    presets = {  # noqa: RUF012
        "quick": {
            "student": {"backbone": "conv4-16"},
            "teacher": {"backbone": "conv4-64", "steps": 500, "batch_size": 64},
            "training": {"steps": 200, "batch_size": 64},
        },
        "paper": {
            "student": {"backbone": "conv4-64"},
            "teacher": {"backbone": "conv4-64", "steps": 10_000, "batch_size": 256},
            "training": {"steps": 10_000, "batch_size": 256},
        },
    }

    @classmethod
    def transfer_context(
        cls, fields: Mapping[str, int], settings: Any, student: str, teacher: str, start: Start
    ) -> TransferContext:
        """Return a context in which teacher and student have the base classes."""
        return TransferContext("same", student, teacher, start, evaluated="embedding", episodic=True)

    @property
    def count(self) -> int:
        """Number of episodes of a run."""
        return self.settings.episodes

    def tasks(self, data: ImageSet, seed: int = 0) -> tuple[Task, Task]:
        """Return the base classes, for both networks and every seed."""
        from benchmark.data.task import hold_out

        base = hold_out(data, data.split("train"), self.settings.held_out)
        return base, base

    def train_briefly(self, data: ImageSet, trainer: Trainer) -> tuple[TrainedNetwork, TrainedNetwork]:
        """Train teacher and student on the base classes."""
        teacher_task, student_task = self.tasks(data)
        teacher = trainer.get_teacher(teacher_task)
        return teacher, trainer.train_student(student_task, teacher, episode=(self.fields["way"], self.fields["shot"]))

    def run(self, data: ImageSet, trainer: Trainer, seed: int) -> Result:
        """Train teacher and student, then evaluate student, teacher and pixels on the same episodes."""
        import torch

        teacher, student = self.train_briefly(data, trainer)
        episodes, disjoint = self.episodes(data, seed), self.disjoint_episodes(data, seed)
        novel = data.indices_of(data.split(self.settings.split))
        embeddings = {
            "student": trainer.embed(student, data, novel),
            "teacher": trainer.embed(teacher, data, novel),
            "pixels": torch.from_numpy(data.images[novel]).to(trainer.device.torch).flatten(1).float(),
        }
        correct, disjoint_correct = (
            {name: self._correct(features, novel, sampled) for name, features in embeddings.items()}
            for sampled in (episodes, disjoint)
        )
        if student.episodic_method is not None:
            for counts, sampled in ((correct, episodes), (disjoint_correct, disjoint)):
                counts["common_head"] = counts["student"]
                counts["student"] = trainer.evaluate_episodes(student, sampled)
        return self.result(episodes, correct, student, teacher, disjoint_correct)

    def _correct(self, features: Tensor, novel: IntArray, episodes: Episodes) -> IntArray:
        """Count the correct queries of each of E episodes.

        Args:
            features: M x D.
            novel: Ascending indices of the M images.
            episodes: E episodes.
        """
        import numpy as np

        from benchmark.training import correct_queries

        rows = np.zeros(novel.max() + 1, np.int64)
        rows[novel] = np.arange(len(novel))
        normalise = self.settings.head == "normalised"
        return correct_queries(features, rows[episodes.support], rows[episodes.query], normalise=normalise)
