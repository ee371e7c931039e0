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
from protocols.base import unequal_class_scores
from protocols.splits import check_validation_split, class_order, images_by_class, make_task, smallest_class

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.data import ImageSet, Task
    from benchmark.data.image_set import IntArray
    from benchmark.methods.requirements import Relation, Start
    from benchmark.training import TrainedNetwork, Trainer

PROJECTED_CLASSES, PROJECTED_IMAGES = 10, 20
"""Evaluated images whose embeddings are stored: the first images of evenly spaced classes."""


class Distillation(Protocol):
    """Teacher and student of n classes each, of which ``percent`` % are the same; top-1 accuracy.

    Ye, Lu and Zhan, TPAMI 2022, arXiv 2205.01915. The classes of the data set have one order, drawn once; its splits of
    novel classes are not used. n is half of the classes, or ``classes``. The teacher has positions [0, n), the student
    [new, new + n), new = round(n (100 - percent) / 100).

    Images are split by group into training, validation and test, once; official test images stay test images. The
    teacher trains on all training images of its classes. The student trains on ``images_per_class`` of each of its
    classes, drawn by the run's seed. Evaluated images are in no training and no class mean.

    References: chance, and ``teacher_ncm``, the nearest mean of the student's training images in the teacher's
    embedding. If classes are strongly unequal, also the mean over classes and the share of the largest class.
    """

    percent: ClassVar[int] = 100

    @dataclass(frozen=True)
    class Settings:
        """Images and classes of teacher and student."""

        images_per_class: Annotated[int, Ge(0)] = 2
        """Training images of the student per class; 0 uses all."""
        split: Literal["test", "val"] = "test"
        """Images that are evaluated."""
        test: Annotated[float, Gt(0), Lt(1)] = 0.4
        """Share of groups for test, if the data set has no official test images."""
        val: Annotated[float, Ge(0), Lt(1)] = 0.2
        """Share of the remaining groups for validation; 0 trains on all of them."""
        classes: Annotated[int, Ge(0)] = field(default=0, metadata=ADDED_LATER)
        """Classes of the teacher, and of the student; 0 uses half of the data set's."""

    reads_teacher = False
    presets = {  # noqa: RUF012
        "quick": {
            # chosen on validation images of glyphs: methods differ by 3 points with 5 per class, by 7 points with 2
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
        """Return disjoint classes for 0 %, the same for 100 %, else an overlap; raise ``InputError`` above 100 %."""
        percent = fields.get("percent", cls.percent)
        if not 0 <= percent <= 100:
            raise InputError(f"an overlap of {percent} % of the classes: it must lie in 0..100")
        relation: Relation = "same" if percent == 100 else "overlap" if percent else "disjoint"
        return TransferContext(relation, student, teacher, start)

    def check(self, data: ImageSet) -> None:
        """Raise if there are too few classes, or too few training images in one of the student's."""
        check_validation_split(self.settings)
        each, available = self.settings.classes, len(data.classes)
        required = each + self._new_classes(each)
        if required > available:
            raise InputError(
                f"protocol.classes = {each}: {self.name} takes {required} classes then, data set {data.name} has "
                f"{available}"
            )
        teacher, student = self.classes(data)
        size, shared = len(student), len(set(teacher) & set(student))
        if size < 2:
            raise DoesNotApply(f"{self.name} needs at least 4 classes, data set {data.name} has {available}")
        if 0 < self.fields.get("percent", self.percent) < 100 and shared in (0, 1, size):
            raise DoesNotApply(
                f"{self.name}: {self.fields['percent']} % of the {size} classes that teacher and student have each on "
                f"{data.name} rounds to {shared}; take {'distill-same' if shared == size else 'distill-cross'} or a "
                f"share between {200 / size:.0f} and {100 - 100 / size:.0f} %"
            )
        name, images = smallest_class(data, self.settings, student)
        if self.settings.images_per_class > images:
            raise DoesNotApply(
                f"protocol.images_per_class = {self.settings.images_per_class}: class {name!r} of {data.name} has "
                f"{images} training images; take that many at most, or 0 for all"
            )

    def classes(self, data: ImageSet) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the teacher's classes and the student's."""
        order = class_order(data, "distillation")
        size = self.settings.classes or len(order) // 2
        new = self._new_classes(size)
        return order[:size], order[new : new + size]

    def _new_classes(self, size: int) -> int:
        """Return how many of the student's classes the teacher does not have."""
        return round(size * (100 - self.fields.get("percent", self.percent)) / 100)

    def tasks(self, data: ImageSet, seed: int = 0) -> tuple[Task, Task]:
        """Return the teacher's task, the same for every seed, and the student's, whose training images are drawn."""
        import numpy as np

        def draw(c: int, images: IntArray) -> IntArray:
            if not self.settings.images_per_class:
                return images
            rng = np.random.default_rng(derive_seed(seed, "training images", data.seed_name, c))
            return np.sort(rng.permutation(images)[: self.settings.images_per_class])

        teacher, student = self.classes(data)
        pools = images_by_class(data, self.settings, "train", student)
        train = {c: draw(c, images) for c, images in pools.items()}
        return make_task(data, self.settings, teacher), make_task(data, self.settings, student, train)

    def run(self, data: ImageSet, trainer: Trainer, seed: int) -> Result:
        """Train teacher and student, and classify the held-out images of the student's task by both."""
        import numpy as np

        from benchmark.statistics import image_interval
        from benchmark.training import class_means, nearest_mean_scores

        teacher_task, task = self.tasks(data, seed)
        teacher = trainer.get_teacher(teacher_task)
        student = trainer.train_student(task, teacher)
        train_embeddings = trainer.embed(teacher, data, task.train)
        means = class_means(train_embeddings, task.labels(task.train), len(task.classes))
        embeddings = {"student": trainer.embed(student, data, task.held_out)}
        embeddings["teacher"] = trainer.embed(teacher, data, task.held_out)
        predicted = {
            "student": student.network.head(embeddings["student"]).argmax(1).cpu().numpy(),
            "teacher_ncm": nearest_mean_scores(embeddings["teacher"], means).argmax(1).cpu().numpy(),
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
            references={
                **scores,
                "chance": Score(1 / len(task.classes)),
                **unequal_class_scores(labels, predicted["student"]),
            },
            arrays={
                "classes": np.asarray(task.classes, np.int32),
                "images": task.held_out.astype(np.int32),
                "labels": labels.astype(np.int32),
                **{f"predicted_{name}": classes.astype(np.int32) for name, classes in predicted.items()},
                **_projections(labels, embeddings),
                **_teacher_weights(teacher, task, train_embeddings),
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


def _teacher_weights(teacher: TrainedNetwork, task: Task, embeddings: Tensor) -> dict[str, Any]:
    """Return the weight of the teacher for each training image, and whether it knows the image's class."""
    import numpy as np

    from benchmark.losses import adaptive_weights

    known = np.isin(task.data.labels[task.train], teacher.classes)
    if known.all() or not known.any():
        return {}
    weights = adaptive_weights(teacher.network.head(embeddings)).cpu().numpy()
    return {"train_weights": weights.astype(np.float32), "train_known": known}


def _projections(labels: IntArray, embeddings: Mapping[str, Tensor]) -> dict[str, Any]:
    """Project the embeddings of some evaluated images of some classes, few enough to store with a record."""
    import numpy as np

    from benchmark.training import principal_components

    classes = np.unique(labels)
    projected = classes[np.linspace(0, len(classes) - 1, min(len(classes), PROJECTED_CLASSES)).astype(int)]
    rows = np.concatenate([np.flatnonzero(labels == c)[:PROJECTED_IMAGES] for c in projected])
    projections = {f"projected_{name}": principal_components(x[rows], 16) for name, x in embeddings.items()}
    return {"projected": rows.astype(np.int32), **projections}


@PROTOCOLS.register("distill-same")
class DistillSame(Distillation):
    """Distil between equal label spaces: few images per class, top-1 accuracy on held-out images."""


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
