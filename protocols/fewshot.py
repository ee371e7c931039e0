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
    from benchmark.methods.base import Start
    from benchmark.training import TrainedNetwork, Trainer


@PROTOCOLS.register(
    "fewshot-{way}way{shot}shot",
    examples=("fewshot-5way1shot", "fewshot-5way5shot", "fewshot-10way1shot", "fewshot-20way5shot"),
)
class FewShot(Episodic):
    """Distil on base classes, judge the student's embedding by nearest centroids on episodes of novel classes.

    A teacher learns the base classes by cross-entropy; a student is distilled on the same base classes by the method;
    the student's embedding is judged on N-way K-shot episodes of classes that neither has seen. The head is the
    nearest centroid of the support embeddings, L2-normalised unless ``head`` is ``euclidean``. The episodes depend on
    protocol, data set and seed alone. Beside the student stand the teacher and raw pixels on the same episodes.
    """

    @dataclass(frozen=True)
    class Settings:
        """Episodes, queries per class, the head, the classes judged and the share of base images held out."""

        episodes: Annotated[int, Ge(2)] = 10_000
        queries: Annotated[int, Ge(1)] = 15
        head: Literal["normalised", "euclidean"] = "normalised"
        split: Literal["test", "val"] = "test"
        held_out: Annotated[float, Gt(0), Lt(1)] = 0.1

    trial = {"split": "val", "episodes": 1000}  # noqa: RUF012
    tuned_at = "fewshot-5way1shot"
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
        """Teacher and student have the base classes."""
        return TransferContext("same", student, teacher, start, judged="embedding", episodes=True)

    @property
    def count(self) -> int:
        """As many as the settings say."""
        return self.settings.episodes

    def tasks(self, data: ImageSet, seed: int = 0) -> tuple[Task, Task]:
        """The base classes, for both and for every seed."""
        from benchmark.data.task import hold_out

        base = hold_out(data, data.split("train"), self.settings.held_out)
        return base, base

    def train_briefly(self, data: ImageSet, trainer: Trainer) -> tuple[TrainedNetwork, TrainedNetwork]:
        """Teacher and student on the base classes."""
        teacher_task, student_task = self.tasks(data)
        teacher = trainer.teacher(teacher_task)
        return teacher, trainer.student(student_task, teacher, episode=(self.fields["way"], self.fields["shot"]))

    def run(self, data: ImageSet, trainer: Trainer, seed: int) -> Result:
        """Teacher and student on the base classes, then all three embeddings on one stream of episodes.

        A student that adapts to each support set answers the same episodes in its own way.
        """
        import torch

        teacher, student = self.train_briefly(data, trainer)
        episodes, disjoint = self.episodes(data, seed), self.disjoint_episodes(data, seed)
        novel = data.indices_of(data.split(self.settings.split))
        embeddings = {
            "student": trainer.embed(student, data, novel),
            "teacher": trainer.embed(teacher, data, novel),
            "pixels": torch.from_numpy(data.images[novel]).to(trainer.device.torch).flatten(1).float(),
        }
        correct, apart = (
            {name: self.judge(features, novel, drawn) for name, features in embeddings.items()}
            for drawn in (episodes, disjoint)
        )
        if student.adapts is not None:
            correct["student"], apart["student"] = (trainer.answer(student, drawn) for drawn in (episodes, disjoint))
        return self.result(episodes, correct, student, teacher, apart)

    def judge(self, features: Tensor, novel: IntArray, episodes: Episodes) -> IntArray:
        """Correct queries of each episode, for features (M x D) of the images ``novel``, ascending: E."""
        import numpy as np

        from benchmark.training import correct_queries

        rows = np.zeros(novel.max() + 1, np.int64)
        rows[novel] = np.arange(len(novel))
        normalise = self.settings.head == "normalised"
        return correct_queries(features, rows[episodes.support], rows[episodes.query], normalise=normalise)
