"""Middle-shot: a small network trained for every novel task on its few images, with a teacher of other classes."""

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
    from benchmark.methods.base import Start
    from benchmark.training import TrainedNetwork, Trainer

MOST_SHOTS = 30


@PROTOCOLS.register(
    "middleshot-{way}way{shot}shot",
    examples=("middleshot-5way1shot", "middleshot-5way5shot", "middleshot-5way10shot", "middleshot-5way30shot"),
)
class MiddleShot(Episodic):
    """Train a student on each of many small novel tasks, guided by a teacher of base classes; judge it on queries.

    A teacher learns the base classes by cross-entropy. For every task, N novel classes with K images each, a student is
    trained on these images (in ``crops`` random crops of each) by the method, and classifies the task's queries. Tasks
    depend on protocol, data set and seed alone. All students of a run are trained side by side, as each would be alone.

    A student that starts trained (``finetune``, or ``student.start=teacher``) starts from a network of its own backbone
    that has learnt the base classes as the teacher has. ``ncm`` and ``logistic-regression`` use the frozen teacher.
    Beside the student stand the teacher's and the raw pixels' nearest centroids on the same tasks.
    """

    @dataclass(frozen=True)
    class Settings:
        """Tasks, queries per class, crops per image, the classes judged, the share of base images held out."""

        tasks: Annotated[int, Ge(2)] = 200
        queries: Annotated[int, Ge(1)] = 10
        crops: Annotated[int, Ge(1), Le(64)] = 8
        """The first is the image itself; 1 turns augmentation off."""
        split: Literal["test", "val"] = "test"
        held_out: Annotated[float, Gt(0), Lt(1)] = 0.1

    trial = {"split": "val", "tasks": 60}  # noqa: RUF012
    tuned_at = "middleshot-5way5shot"
    presets = {  # noqa: RUF012
        "quick": {
            "student": {"backbone": "conv4-16"},
            "teacher": {"backbone": "conv4-64", "steps": 500, "batch_size": 64},
            # rate chosen on validation classes: with batches of 10, 0.1 cost every method 3 to 4 points
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
        """Novel classes only, and a start from the base classes with the student's own backbone."""
        if not 1 <= fields["shot"] <= MOST_SHOTS:
            raise InputError(f"{fields['shot']} shots: middle-shot tasks have 1 to {MOST_SHOTS}")
        return TransferContext("disjoint", student, teacher, start, origin=student, many=True)

    @property
    def count(self) -> int:
        """As many as the settings say."""
        return self.settings.tasks

    def tasks(self, data: ImageSet, seed: int = 0) -> tuple[Task, Task]:
        """The base classes; and the first novel task, whose queries are held out."""
        from benchmark.data import Task
        from benchmark.data.task import hold_out

        base = hold_out(data, data.split("train"), self.settings.held_out)
        drawn = self.episodes(data, seed)
        first = (part[0].reshape(-1) for part in (drawn.classes, drawn.support, drawn.query))
        classes, support, query = first
        return base, Task(data, tuple(classes.tolist()), support, query)

    @property
    def students(self) -> int:
        """One for each task."""
        return self.settings.tasks

    def train_briefly(self, data: ImageSet, trainer: Trainer) -> tuple[TrainedNetwork, TrainedNetwork]:
        """The students of as many tasks as are trained side by side."""
        base, _ = self.tasks(data)
        teacher, drawn = trainer.teacher(base), self.episodes(data, 0)
        some = type(drawn)(drawn.classes[:20], drawn.support[:20], drawn.query[:20])
        return teacher, trainer.students(some, base, teacher, self.settings.crops)[0]

    def run(self, data: ImageSet, trainer: Trainer, seed: int) -> Result:
        """Teacher on the base classes, then the students of all tasks, and the references on the same queries."""
        import numpy as np
        import torch

        from benchmark.training import correct_queries

        base, _ = self.tasks(data, seed)
        teacher = trainer.teacher(base)
        drawn = self.episodes(data, seed)
        student, logits = trainer.students(drawn, base, teacher, self.settings.crops)
        truth = np.arange(self.fields["way"]).repeat(self.settings.queries)
        images = np.unique(np.concatenate([drawn.support.ravel(), drawn.query.ravel()]))
        rows = np.searchsorted(images, drawn.support), np.searchsorted(images, drawn.query)
        pixels = torch.from_numpy(data.images[images]).to(trainer.device.torch).flatten(1).float()
        correct = {
            "student": (logits.argmax(2).cpu().numpy() == truth).sum(1),
            "teacher": correct_queries(trainer.embed(teacher, data, images), *rows, normalise=True),
            "pixels": correct_queries(pixels, *rows, normalise=True),
        }
        return self.result(drawn, correct, student, teacher)
