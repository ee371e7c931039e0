"""Middle-shot: a small network trained for each novel task on its few images, with a teacher of other classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

from benchmark.errors import InputError
from benchmark.methods import TransferContext
from protocols import PROTOCOLS, Result
from protocols.episodic import Episodic

if TYPE_CHECKING:
    from benchmark.data import ImageSet, Task
    from benchmark.methods.requirements import Start
    from benchmark.training import TrainedNetwork, Trainer

MAX_SHOTS = 30


@PROTOCOLS.register(
    "middleshot-{way}way{shot}shot",
    examples=("middleshot-5way1shot", "middleshot-5way5shot", "middleshot-5way10shot", "middleshot-5way30shot"),
)
class MiddleShot(Episodic):
    """Train a student on each of many small novel tasks, with a teacher of base classes; classify the queries.

    A teacher learns the base classes by cross-entropy. Each task has N novel classes with K images each. The method
    trains a student on these images, in ``crops`` random crops of each; the student classifies the task's queries.
    Tasks depend on protocol, data set and seed alone. All students of a run train in parallel, as each would alone.

    A student that starts trained (``finetune``, or ``student.start=teacher``) starts from a network of its own
    backbone, trained on the base classes as the teacher is. ``ncm`` and ``logistic-regression`` use the frozen teacher.
    References: nearest centroids of the teacher's embedding and of raw pixels on the same tasks.
    """

    @dataclass(frozen=True)
    class Settings:
        """Tasks and their images."""

        tasks: Annotated[int, Ge(2)] = 200
        """Number of tasks."""
        queries: Annotated[int, Ge(1)] = 10
        """Queries per class."""
        crops: Annotated[int, Ge(1), Le(64)] = 8
        """Crops per support image; the first one is the image itself. 1 turns augmentation off."""
        split: Literal["test", "val"] = "test"
        """Novel classes that are evaluated."""
        held_out: Annotated[float, Gt(0), Lt(1)] = 0.1
        """Share of the base images held out of training."""

    trial = {"split": "val", "tasks": 60}  # noqa: RUF012
    tuned_at = "middleshot-5way5shot"
    reads_teacher = False
    presets = {  # noqa: RUF012
        "quick": {
            "student": {"backbone": "conv4-16"},
            "teacher": {"backbone": "conv4-64", "steps": 500, "batch_size": 64},
            # rate chosen on validation classes: with batches of 10, 0.1 costs every method 3 to 4 points
            "training": {"steps": 50, "batch_size": 10, "lr": 0.03},
        },
        "paper": {
            "protocol": {"tasks": 600},
            "student": {"backbone": "conv4-64"},
            "teacher": {"backbone": "conv4-64", "steps": 10_000, "batch_size": 256},
            "training": {"steps": 400, "batch_size": 25},
        },
    }

    @classmethod
    def transfer_context(
        cls, fields: Mapping[str, int], settings: Any, student: str, teacher: str, start: Start
    ) -> TransferContext:
        """Return a context of novel classes; students may start from a network of their own backbone."""
        if not 1 <= fields["shot"] <= MAX_SHOTS:
            raise InputError(f"{fields['shot']} shots: middle-shot tasks have 1 to {MAX_SHOTS}")
        return TransferContext("disjoint", student, teacher, start, start_backbone=student, parallel_students=True)

    @property
    def count(self) -> int:
        """Number of tasks of a run."""
        return self.settings.tasks

    def tasks(self, data: ImageSet, seed: int = 0) -> tuple[Task, Task]:
        """Return the base classes, and the first novel task, whose queries are held out."""
        from benchmark.data import Task
        from benchmark.data.task import hold_out

        base = hold_out(data, data.split("train"), self.settings.held_out)
        episodes = self.episodes(data, seed)
        classes, support, query = (x[0].reshape(-1) for x in (episodes.classes, episodes.support, episodes.query))
        return base, Task(data, tuple(classes.tolist()), support, query)

    @property
    def students(self) -> int:
        """Number of students of a run: one for each task."""
        return self.settings.tasks

    def train_briefly(self, data: ImageSet, trainer: Trainer) -> tuple[TrainedNetwork, TrainedNetwork]:
        """Train the students of one group of tasks."""
        base, _ = self.tasks(data)
        teacher, episodes = trainer.get_teacher(base), self.episodes(data, 0)
        group = type(episodes)(episodes.classes[:20], episodes.support[:20], episodes.query[:20])
        return teacher, trainer.train_students(group, base, teacher, self.settings.crops)[0]

    def run(self, data: ImageSet, trainer: Trainer, seed: int) -> Result:
        """Train the teacher and the students of all tasks; evaluate students and references on the same queries."""
        import numpy as np
        import torch

        from benchmark.training import correct_queries

        base, _ = self.tasks(data, seed)
        teacher = trainer.get_teacher(base)
        episodes = self.episodes(data, seed)
        student, logits = trainer.train_students(episodes, base, teacher, self.settings.crops)
        truth = np.arange(self.fields["way"]).repeat(self.settings.queries)
        images = np.unique(np.concatenate([episodes.support.ravel(), episodes.query.ravel()]))
        rows = np.searchsorted(images, episodes.support), np.searchsorted(images, episodes.query)
        pixels = torch.from_numpy(data.images[images]).to(trainer.device.torch).flatten(1).float()
        correct = {
            "student": (logits.argmax(2).cpu().numpy() == truth).sum(1),
            "teacher": correct_queries(trainer.embed(teacher, data, images), *rows, normalise=True),
            "pixels": correct_queries(pixels, *rows, normalise=True),
        }
        return self.result(episodes, correct, student, teacher)
