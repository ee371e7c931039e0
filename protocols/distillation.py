"""Distillation between tasks whose classes are the same, overlap or are disjoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Lt

from benchmark.errors import DoesNotApply, InputError
from benchmark.hashing import content_key, derive_seed
from benchmark.methods import TransferContext
from benchmark.settings import ADDED_LATER
from protocols import PROTOCOLS, Protocol, Result, Score
from protocols.base import check_judged_side, class_order

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.data import ImageSet, Task
    from benchmark.data.image_set import IntArray
    from benchmark.data.task import Split
    from benchmark.methods.base import Relation, Start
    from benchmark.training import TrainedNetwork, Trainer

PROJECTED_CLASSES, PROJECTED_IMAGES = 10, 20
"""Of the judged images, those whose embeddings are kept: classes evenly spaced, the first images of each."""


class Distillation(Protocol):
    """Teacher and student of n classes each, of which ``percent`` % are the same; judged by top-1 accuracy.

    Ye, Lu and Zhan, TPAMI 2022, arXiv 2205.01915. All classes of the data set stand in one order, drawn once; its
    splits of classes, made for novel classes, play no part. With n classes each, half of them unless ``classes`` says
    otherwise, the teacher has positions [0, n) and the student [new, new + n), new = round(n (100 - percent) / 100).
    Images are split by group into training, validation and test, once; official test images stay test images. The
    teacher trains on all training images of its classes, the student on ``images_per_class`` of each of its own, drawn
    by the run's seed. Images judged are in no training and no centre.

    Beside the student's logits stand chance and ``teacher_ncm``: the teacher's embedding, with the nearest mean of the
    student's training images.
    """

    percent: ClassVar[int] = 100

    @dataclass(frozen=True)
    class Settings:
        """Training images of the student per class (0: all), the images judged, and shares of groups held out."""

        images_per_class: Annotated[int, Ge(0)] = 2
        split: Literal["test", "val"] = "test"
        test: Annotated[float, Gt(0), Lt(1)] = 0.4
        """Where the data set has no official test images."""
        val: Annotated[float, Ge(0), Lt(1)] = 0.2
        """Of the groups that are not for test; 0 trains on all of these."""
        classes: Annotated[int, Ge(0)] = field(default=0, metadata=ADDED_LATER)
        """Classes of teacher and student each; 0: half of the data set's."""

    presets = {  # noqa: RUF012
        "quick": {
            # chosen on validation images: with 5 per class the methods lay within 3 points on glyphs, with 2 within 7
            "protocol": {"images_per_class": 2},
            "student": {"backbone": "conv4-16"},
            "teacher": {"backbone": "conv4-64", "steps": 500, "batch_size": 64},
            "training": {"steps": 150, "batch_size": 64},
        },
        "paper": {
            "protocol": {"images_per_class": 0},
            "student": {"backbone": "conv4-64"},
            "teacher": {"backbone": "conv4-64", "steps": 10_000, "batch_size": 256},
            "training": {"steps": 10_000, "batch_size": 256},
        },
    }

    @classmethod
    def transfer_context(
        cls, fields: Mapping[str, int], settings: Any, student: str, teacher: str, start: Start
    ) -> TransferContext:
        """Disjoint classes for 0 %, the same for 100 %, else overlap; more than 100 % raises ``InputError``."""
        percent = fields.get("percent", cls.percent)
        if not 0 <= percent <= 100:
            raise InputError(f"an overlap of {percent} % of the classes: it must lie in 0..100")
        relation: Relation = "same" if percent == 100 else "overlap" if percent else "disjoint"
        return TransferContext(relation, student, teacher, start)

    def check(self, data: ImageSet) -> None:
        """Enough classes for such an overlap, and enough training images in each of the student's."""
        import numpy as np

        check_judged_side(self.settings)
        each, there = self.settings.classes, len(data.classes)
        last = each + round(each * (100 - self.fields.get("percent", self.percent)) / 100)
        if last > there:
            raise InputError(
                f"protocol.classes = {each}: {self.name} takes {last} classes then, data set {data.name} has {there}"
            )
        teacher, student = self.classes(data)
        size, shared = len(student), len(set(teacher) & set(student))
        if size < 2:
            raise DoesNotApply(
                f"{self.name} needs 4 classes at the least, data set {data.name} has {len(data.classes)}"
            )
        if 0 < self.fields.get("percent", self.percent) < 100 and shared in (0, 1, size):
            raise DoesNotApply(
                f"{self.name}: {self.fields['percent']} % of the {size} classes that teacher and student have each on "
                f"{data.name} rounds to {shared}; take {'distill-same' if shared == size else 'distill-cross'} or a "
                f"share between {200 / size:.0f} and {100 - 100 / size:.0f} %"
            )
        counts = np.bincount(data.labels[self._sides(data)["train"]], minlength=len(data.classes))
        fewest = min(student, key=lambda c: counts[c])
        if self.settings.images_per_class > counts[fewest]:
            raise DoesNotApply(
                f"protocol.images_per_class = {self.settings.images_per_class}: class {data.classes[fewest]!r} of "
                f"{data.name} has {counts[fewest]} training images; take that many at most, or 0 for all"
            )

    def classes(self, data: ImageSet) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The teacher's classes and the student's."""
        order = class_order(data, "distillation")
        size = self.settings.classes or len(order) // 2
        new = round(size * (100 - self.fields.get("percent", self.percent)) / 100)
        return order[:size], order[new : new + size]

    def tasks(self, data: ImageSet, seed: int = 0) -> tuple[Task, Task]:
        """The teacher's task, the same for every seed, and the student's, whose training images follow the seed."""
        import numpy as np

        from benchmark.data import Task

        sides = self._sides(data)

        def images(side: Split, classes: tuple[int, ...]) -> list[IntArray]:
            labels = data.labels[sides[side]]
            return [sides[side][labels == c] for c in classes]

        def drawn(c: int, pool: IntArray) -> IntArray:
            if not self.settings.images_per_class:
                return pool
            rng = np.random.default_rng(derive_seed(seed, "training images", data.name, c))
            return np.sort(rng.permutation(pool)[: self.settings.images_per_class])

        teacher, student = self.classes(data)
        judged = self.settings.split
        few = [drawn(c, pool) for c, pool in zip(student, images("train", student), strict=True)]
        return (
            Task(data, teacher, np.concatenate(images("train", teacher)), np.concatenate(images(judged, teacher))),
            Task(data, student, np.concatenate(few), np.concatenate(images(judged, student))),
        )

    def run(self, data: ImageSet, trainer: Trainer, seed: int) -> Result:
        """Teacher and student on their tasks, then both on the images held out of the student's."""
        import numpy as np

        from benchmark.statistics import image_interval
        from benchmark.training import class_means, nearest_mean_scores

        teacher_task, task = self.tasks(data, seed)
        teacher = trainer.teacher(teacher_task)
        student = trainer.student(task, teacher)
        known = trainer.embed(teacher, data, task.train)
        centres = class_means(known, task.labels(task.train), len(task.classes))
        judged = {"student": trainer.embed(student, data, task.held_out)}
        judged["teacher"] = trainer.embed(teacher, data, task.held_out)
        logits = student.network.head(judged["student"])
        guide = nearest_mean_scores(judged["teacher"], centres)
        predicted = {
            "student": logits.argmax(1).cpu().numpy(),
            "teacher_ncm": guide.argmax(1).cpu().numpy(),
        }
        labels = task.labels(task.held_out)
        intervals = {name: image_interval(classes == labels) for name, classes in predicted.items()}
        scores = {name: Score(interval.mean, (interval,)) for name, interval in intervals.items()}
        return Result(
            metric="accuracy",
            score=scores.pop("student"),
            n=len(labels),
            student=student,
            teacher=teacher,
            references={**scores, "chance": Score(1 / len(task.classes))},
            arrays={
                "classes": np.asarray(task.classes, np.int32),
                "images": task.held_out.astype(np.int32),
                "labels": labels.astype(np.int32),
                **{f"predicted_{name}": classes.astype(np.int32) for name, classes in predicted.items()},
                **_projections(labels, judged),
                **self._weights(teacher, task, known),
            },
            facts={
                "images_per_class": self.settings.images_per_class,
                "training_images": len(task.train),
                "teacher_training_images": len(teacher_task.train) if teacher.classes else None,
                "classes": len(task.classes),
                "classes_shared": len(set(task.classes) & set(teacher.classes)),
                "class_order_hash": content_key(class_order(data, "distillation")),
            },
        )

    def _sides(self, data: ImageSet) -> Mapping[Split, IntArray]:
        from benchmark.data.task import split_by_group

        return split_by_group(data, test=self.settings.test, val=self.settings.val)

    def _weights(self, teacher: TrainedNetwork, task: Task, embeddings: Tensor) -> dict[str, Any]:
        """How much the teacher is to be heard on each training image, and whether it knows the image's class."""
        import numpy as np

        from benchmark.losses import adaptive_weights

        known = np.isin(task.data.labels[task.train], teacher.classes)
        if known.all() or not known.any():
            return {}
        weights = adaptive_weights(teacher.network.head(embeddings)).cpu().numpy()
        return {"train_weights": weights.astype(np.float32), "train_known": known}


def _projections(labels: IntArray, embeddings: Mapping[str, Tensor]) -> dict[str, Any]:
    """Student's and teacher's embeddings of some judged images of some classes, few enough to keep with a record."""
    import numpy as np

    from benchmark.training import principal_components

    found = np.unique(labels)
    chosen = found[np.linspace(0, len(found) - 1, min(len(found), PROJECTED_CLASSES)).astype(int)]
    rows = np.concatenate([np.flatnonzero(labels == c)[:PROJECTED_IMAGES] for c in chosen])
    projections = {f"projected_{name}": principal_components(x[rows], 16) for name, x in embeddings.items()}
    return {"projected": rows.astype(np.int32), **projections}


@PROTOCOLS.register("distill-same")
class DistillSame(Distillation):
    """Distil between equal label spaces: few images per class, judged by top-1 accuracy on held-out images."""


@PROTOCOLS.register(
    "distill-overlap{percent}", examples=("distill-overlap20", "distill-overlap50", "distill-overlap80")
)
class DistillOverlap(Distillation):
    """Distil to a student that shares the given percent of its classes with the teacher."""

    tuned_at = "distill-overlap40"


@PROTOCOLS.register("distill-cross")
class DistillCross(Distillation):
    """Distil to a student none of whose classes the teacher has seen."""

    percent = 0
