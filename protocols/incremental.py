"""One step of class-incremental learning: old classes from a teacher and a few exemplars, new ones in full."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt

from benchmark.errors import DoesNotApply
from benchmark.hashing import content_key
from benchmark.methods import TransferContext
from protocols import PROTOCOLS, Protocol, Result, Score
from protocols.base import check_judged_side, class_order

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.data import ImageSet, Task
    from benchmark.data.image_set import IntArray
    from benchmark.data.task import Split
    from benchmark.methods.base import Start
    from benchmark.training import TrainedNetwork, Trainer


@PROTOCOLS.register(
    "incremental-1step-{exemplars}exemplars",
    examples=("incremental-1step-0exemplars", "incremental-1step-5exemplars", "incremental-1step-20exemplars"),
)
class Incremental(Protocol):
    """Add new classes to a teacher's with few exemplars of its own; judged on all classes together.

    Classes stand in one order; the first ``old`` are the teacher's, trained on all their training images. The student
    trains once, on the images of the new classes and on the given number of exemplars per old class, chosen by herding
    with the teacher; no task is named at test. The suite's own protocol: published one-step numbers differ in it.

    The value is the accuracy over all classes. Beside it: ``old`` and ``new`` images alone, ``harmonic``, the harmonic
    mean of these two, ``teacher_old``, the teacher on the old images, and ``old_within_old``, the student's old outputs
    alone on them: what is forgotten, apart from what is confused with new classes.

    A method is completed by its slots (memory, rebalance, head); ``rebalance`` and ``head`` here take their place.
    """

    @dataclass(frozen=True)
    class Settings:
        """Number of old classes (0: half), slots of the method, the images judged, shares of groups held out."""

        old: Annotated[int, Ge(0)] = 0
        rebalance: Literal["method", "none", "balanced", "align"] = "method"
        head: Literal["method", "net", "ncm", "nme"] = "method"
        split: Literal["test", "val"] = "test"
        test: Annotated[float, Gt(0), Lt(1)] = 0.4
        """Where the data set has no official test images."""
        val: Annotated[float, Ge(0), Lt(1)] = 0.2
        """Of the groups that are not for test; 0 trains on all of these."""

    tuned_at = "incremental-1step-5exemplars"
    presets = {  # noqa: RUF012
        "quick": {
            "student": {"backbone": "conv4-32", "start": "teacher"},
            "teacher": {"backbone": "conv4-32", "steps": 500, "batch_size": 64},
            "training": {"steps": 100, "batch_size": 64},
        },
        "paper": {
            "student": {"backbone": "conv4-64", "start": "teacher"},
            "teacher": {"backbone": "conv4-64", "steps": 10_000, "batch_size": 128},
            "training": {"steps": 10_000, "batch_size": 128},
        },
    }

    @classmethod
    def transfer_context(
        cls, fields: Mapping[str, int], settings: Any, student: str, teacher: str, start: Start
    ) -> TransferContext:
        """The student has the teacher's classes and more."""
        judged: Any = "embedding" if settings.head in ("ncm", "nme") else "logits"
        return TransferContext("extended", student, teacher, start, fields["exemplars"], judged)

    def check(self, data: ImageSet) -> None:
        """Old and new classes both there, and as many images in each old class as exemplars are asked for."""
        import numpy as np

        check_judged_side(self.settings)
        if not 0 < self._old_count(data) < len(data.classes):
            raise DoesNotApply(
                f"protocol.old = {self.settings.old}: {data.name} has {len(data.classes)} classes, some of which must "
                f"be old and some new; take 1 to {len(data.classes) - 1}, or 0 for half"
            )
        exemplars = self.fields["exemplars"]
        if self.settings.head in ("ncm", "nme") and not exemplars:
            raise DoesNotApply(f"protocol.head = {self.settings.head} needs exemplars of the old classes, here are 0")
        counts = np.bincount(data.labels[self._sides(data)["train"]], minlength=len(data.classes))
        fewest = min(self.classes(data)[0], key=lambda c: counts[c])
        if exemplars > counts[fewest]:
            raise DoesNotApply(
                f"{self.name} asks for {exemplars} exemplars per class: class {data.classes[fewest]!r} of {data.name} "
                f"has {counts[fewest]} training images; take that many at most"
            )

    def classes(self, data: ImageSet) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The old classes and the new ones."""
        order, old = class_order(data, "incremental"), self._old_count(data)
        return order[:old], order[old:]

    def tasks(self, data: ImageSet, seed: int = 0) -> tuple[Task, Task]:
        """The teacher's task and the student's, the first images of each old class standing in for the exemplars."""
        first = {c: pool[: self.fields["exemplars"]] for c, pool in self._pools(data, "train", self.classes(data)[0])}
        return self._teacher_task(data), self._student_task(data, first)

    def run(self, data: ImageSet, trainer: Trainer, seed: int) -> Result:
        """Teacher on the old classes, exemplars by it, student on both; then all test images in one pass."""
        import numpy as np

        from benchmark.statistics import image_interval

        slots, settings = trainer.incremental_defaults, self.settings
        rebalance = slots.rebalance if settings.rebalance == "method" else settings.rebalance
        head = slots.head if settings.head == "method" else settings.head
        teacher_task = self._teacher_task(data)
        teacher = trainer.teacher(teacher_task)
        old, new = self.classes(data)
        kept = self.exemplars(data, trainer, teacher, old)
        memory = {
            "exemplars": kept,
            "none": {},
            "all": dict(self._pools(data, "train", old)),
        }[slots.memory]
        task = self._student_task(data, memory)
        student = trainer.student(task, teacher, rebalance)
        scores = self.scores(data, trainer, student, head, kept)
        labels = task.labels(task.held_out)
        is_old = labels < len(old)
        predicted = scores.argmax(1)
        right = predicted == labels
        intervals = {
            "all": image_interval(right),
            "old": image_interval(right[is_old]),
            "new": image_interval(right[~is_old]),
        }
        arrays = {
            "classes": np.asarray(task.classes, np.int32),
            "images": task.held_out.astype(np.int32),
            "labels": labels.astype(np.int32),
            "predicted_student": predicted.astype(np.int32),
        }
        if teacher.classes:
            asked = trainer.embed(teacher, data, task.held_out[is_old])
            by_teacher = teacher.network.head(asked).argmax(1).cpu().numpy()
            intervals["teacher_old"] = image_interval(by_teacher == labels[is_old])
            arrays["predicted_teacher"] = by_teacher.astype(np.int32)
        intervals["old_within_old"] = image_interval(scores[is_old, : len(old)].argmax(1) == labels[is_old])
        beside = {name: Score(interval.mean, (interval,)) for name, interval in intervals.items()}
        value = beside.pop("all")
        return Result(
            metric="accuracy",
            score=value,
            n=len(labels),
            student=student,
            teacher=teacher,
            references={**beside, "harmonic": Score(harmonic_mean(beside["old"].value, beside["new"].value))},
            arrays=arrays,
            facts={
                "classes_old": len(old),
                "classes_new": len(new),
                "exemplars_per_class": self.fields["exemplars"],
                "exemplars_held": sum(map(len, kept.values())),
                "training_images": len(task.train),
                "memory": slots.memory,
                "rebalance": rebalance,
                "head": head,
                "class_order_hash": content_key(old + new),
            },
        )

    def exemplars(
        self, data: ImageSet, trainer: Trainer, network: TrainedNetwork, classes: tuple[int, ...]
    ) -> dict[int, IntArray]:
        """Training images to keep per class, chosen by herding with ``network``."""
        from benchmark.data.herding import herd

        chosen = {}
        for c, pool in self._pools(data, "train", classes):
            embeddings = trainer.embed(network, data, pool).cpu().numpy()
            chosen[c] = pool[herd(embeddings, self.fields["exemplars"])]
        return chosen

    def scores(
        self, data: ImageSet, trainer: Trainer, student: TrainedNetwork, head: str, kept: Mapping[int, IntArray]
    ) -> IntArray:
        """Scores of the held-out images for every class, by the network's own head or by nearest means: M x K."""
        import numpy as np

        from benchmark.training import class_means, nearest_mean_scores

        task = student.task
        embeddings = trainer.embed(student, data, task.held_out)
        if head == "net":
            scores: Tensor = student.network.head(embeddings)
            return scores.cpu().numpy()
        new = self.classes(data)[1]
        images = dict(kept) | dict(self._pools(data, "train", new))
        if head == "nme":
            images |= self.exemplars(data, trainer, student, new)
        chosen = np.concatenate(list(images.values()))
        means = class_means(trainer.embed(student, data, chosen), task.labels(chosen), len(task.classes))
        return nearest_mean_scores(embeddings, means).cpu().numpy()

    def _old_count(self, data: ImageSet) -> int:
        return self.settings.old or len(data.classes) // 2

    def _sides(self, data: ImageSet) -> Mapping[Split, IntArray]:
        from benchmark.data.task import split_by_group

        return split_by_group(data, test=self.settings.test, val=self.settings.val)

    def _pools(self, data: ImageSet, side: Split, classes: tuple[int, ...]) -> list[tuple[int, IntArray]]:
        images = self._sides(data)[side]
        labels = data.labels[images]
        return [(c, images[labels == c]) for c in classes]

    def _teacher_task(self, data: ImageSet) -> Task:
        import numpy as np

        from benchmark.data import Task

        old = self.classes(data)[0]
        sides = [[pool for _, pool in self._pools(data, side, old)] for side in ("train", self.settings.split)]
        return Task(data, old, np.concatenate(sides[0]), np.concatenate(sides[1]))

    def _student_task(self, data: ImageSet, memory: Mapping[int, IntArray]) -> Task:
        import numpy as np

        from benchmark.data import Task

        old, new = self.classes(data)
        train = [*memory.values(), *(pool for _, pool in self._pools(data, "train", new))]
        judged = [pool for _, pool in self._pools(data, self.settings.split, old + new)]
        return Task(data, old + new, np.concatenate(train), np.concatenate(judged))


def harmonic_mean(old: float, new: float) -> float:
    """2 old new / (old + new), 0 where both are 0."""
    return 2 * old * new / (old + new) if old + new else 0.0
