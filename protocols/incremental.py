"""One step of class-incremental learning: a teacher and a few exemplars of the old classes, all images of the new."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt

from benchmark.errors import DoesNotApply
from benchmark.hashing import content_key
from benchmark.methods import TransferContext
from benchmark.settings import ADDED_LATER
from protocols import PROTOCOLS, Protocol, Result, Score
from protocols.base import unequal_class_scores
from protocols.splits import check_validation_split, class_order, images_by_class, make_task, smallest_class

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from benchmark.data import ImageSet, Task
    from benchmark.data.image_set import IntArray
    from benchmark.methods import IncrementalDefaults
    from benchmark.methods.requirements import Start
    from benchmark.training import TrainedNetwork, Trainer


@PROTOCOLS.register(
    "incremental-1step-{exemplars}exemplars",
    examples=("incremental-1step-0exemplars", "incremental-1step-5exemplars", "incremental-1step-20exemplars"),
)
class Incremental(Protocol):
    """Add new classes to a teacher's, with few exemplars of the old ones; accuracy over all classes.

    Classes have one order; the first ``old`` are the teacher's, trained on all their training images. The student
    trains once, on the images of the new classes and on the given number of exemplars per old class, chosen by herding
    with the teacher. The test names no task. This protocol is the suite's own; published one-step numbers differ in it.

    References: ``old`` and ``new`` images alone; ``harmonic``, the harmonic mean of these two; ``teacher_old``, the
    teacher on the old images; ``old_within_old``, the student's old outputs alone on them, which shows what is
    forgotten, apart from what is confused with new classes.

    The method has defaults for memory, rebalancing and head; ``rebalance`` and ``head`` replace them.
    """

    @dataclass(frozen=True)
    class Settings:
        """Old classes, defaults of the method that are replaced, and the split of images."""

        old: Annotated[int, Ge(0)] = 0
        """Number of old classes; 0 uses half."""
        rebalance: Literal["method", "none", "balanced", "align"] = "method"
        """How old and new classes are balanced."""
        head: Literal["method", "net", "ncm", "nme"] = "method"
        """The head that is evaluated."""
        mirrored_means: bool = field(default=True, metadata=ADDED_LATER)
        """Class means are over images and their mirror images, as in iCaRL's code; only if mirror images are of the
        same class, so that training may show them too."""
        split: Literal["test", "val"] = "test"
        """Images that are evaluated."""
        test: Annotated[float, Gt(0), Lt(1)] = 0.4
        """Share of groups for test, if the data set has no official test images."""
        val: Annotated[float, Ge(0), Lt(1)] = 0.2
        """Share of the remaining groups for validation; 0 trains on all of them."""

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
        """Return a context in which the student has the teacher's classes and more."""
        evaluated: Any = "embedding" if settings.head in ("ncm", "nme") else "logits"
        return TransferContext("extended", student, teacher, start, fields["exemplars"], evaluated)

    def check(self, data: ImageSet) -> None:
        """Raise if old or new classes are missing, or if an old class has fewer images than exemplars."""
        check_validation_split(self.settings)
        if not 0 < self._old_count(data) < len(data.classes):
            raise DoesNotApply(
                f"protocol.old = {self.settings.old}: {data.name} has {len(data.classes)} classes, some of which must "
                f"be old and some new; take 1 to {len(data.classes) - 1}, or 0 for half"
            )
        exemplars = self.fields["exemplars"]
        if self.settings.head in ("ncm", "nme") and not exemplars:
            raise DoesNotApply(f"protocol.head = {self.settings.head} needs exemplars of the old classes, here are 0")
        name, images = smallest_class(data, self.settings, self.classes(data)[0])
        if exemplars > images:
            raise DoesNotApply(
                f"{self.name} asks for {exemplars} exemplars per class: class {name!r} of {data.name} "
                f"has {images} training images; take that many at most"
            )

    def classes(self, data: ImageSet) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the old classes and the new ones."""
        order, old = class_order(data, "incremental"), self._old_count(data)
        return order[:old], order[old:]

    def tasks(self, data: ImageSet, seed: int = 0) -> tuple[Task, Task]:
        """Return the teacher's task and the student's; the first images of each old class replace the exemplars."""
        old, _ = self.classes(data)
        images = images_by_class(data, self.settings, "train", old)
        first = {c: pool[: self.fields["exemplars"]] for c, pool in images.items()}
        return make_task(data, self.settings, old), self._student_task(data, first)

    def run(self, data: ImageSet, trainer: Trainer, seed: int) -> Result:
        """Train the teacher, choose its exemplars, train the student, and classify all held-out images."""
        defaults = self._resolve_defaults(trainer.incremental_defaults)
        old, new = self.classes(data)
        teacher = trainer.get_teacher(make_task(data, self.settings, old))
        exemplars = self.exemplars(data, trainer, teacher, old)
        old_images = {
            "exemplars": exemplars,
            "none": {},
            "all": images_by_class(data, self.settings, "train", old),
        }[defaults.memory]
        task = self._student_task(data, old_images)
        student = trainer.train_student(task, teacher, defaults.rebalance)
        scores = self.scores(data, trainer, student, defaults.head, exemplars)
        evaluation = _evaluate(trainer, teacher, task, len(old), scores)
        return Result(
            metric="accuracy",
            score=evaluation.score,
            n=len(task.held_out),
            student=student,
            teacher=teacher,
            references=evaluation.references,
            arrays=evaluation.arrays,
            facts={
                "classes_old": len(old),
                "classes_new": len(new),
                "exemplars_per_class": self.fields["exemplars"],
                "exemplars_held": sum(map(len, exemplars.values())),
                "training_images": len(task.train),
                "memory": defaults.memory,
                "rebalance": defaults.rebalance,
                "head": defaults.head,
                "class_order_hash": content_key(old + new),
            },
        )

    def exemplars(
        self, data: ImageSet, trainer: Trainer, network: TrainedNetwork, classes: tuple[int, ...]
    ) -> dict[int, IntArray]:
        """Choose training images of each class by herding with ``network``."""
        from benchmark.data.herding import herd

        chosen = {}
        for c, images in images_by_class(data, self.settings, "train", classes).items():
            embeddings = trainer.embed(network, data, images).cpu().numpy()
            chosen[c] = images[herd(embeddings, self.fields["exemplars"])]
        return chosen

    def scores(
        self, data: ImageSet, trainer: Trainer, student: TrainedNetwork, head: str, exemplars: Mapping[int, IntArray]
    ) -> npt.NDArray[np.float32]:
        """Score the held-out images for every class.

        Args:
            data: Images.
            trainer: Trainer of the run.
            student: Student.
            head: ``net``: the network's own head. ``ncm``: nearest means of exemplars and of all new images. ``nme``:
                nearest means of as many exemplars of every class.
            exemplars: Exemplars of the old classes.

        Returns:
            M x K.
        """
        import numpy as np
        import torch

        from benchmark.training import class_means, nearest_mean_scores

        task = student.task
        embeddings = trainer.embed(student, data, task.held_out)
        if head == "net":
            logits: Tensor = student.network.head(embeddings)
            return logits.cpu().numpy()
        new = self.classes(data)[1]
        images = {**exemplars, **images_by_class(data, self.settings, "train", new)}
        if head == "nme":
            images |= self.exemplars(data, trainer, student, new)
        chosen = np.concatenate(list(images.values()))
        labels, shown = task.labels(chosen), [trainer.embed(student, data, chosen)]
        if self.settings.mirrored_means and data.flip_invariant:
            shown.append(trainer.embed(student, data, chosen, mirrored=True))
        means = class_means(torch.cat(shown), np.tile(labels, len(shown)), len(task.classes))
        return nearest_mean_scores(embeddings, means).cpu().numpy()

    def _old_count(self, data: ImageSet) -> int:
        return self.settings.old or len(data.classes) // 2

    def _resolve_defaults(self, defaults: IncrementalDefaults) -> IncrementalDefaults:
        """Replace the method's defaults by what the settings of the protocol say."""
        settings = self.settings
        return dataclasses.replace(
            defaults,
            rebalance=defaults.rebalance if settings.rebalance == "method" else settings.rebalance,
            head=defaults.head if settings.head == "method" else settings.head,
        )

    def _student_task(self, data: ImageSet, old_images: Mapping[int, IntArray]) -> Task:
        """Return the task of all classes that trains on these images of old classes and on all of the new ones."""
        old, new = self.classes(data)
        return make_task(
            data, self.settings, old + new, {**old_images, **images_by_class(data, self.settings, "train", new)}
        )


@dataclass(frozen=True)
class Evaluation:
    """Accuracy over all classes, its references, and the predictions."""

    score: Score
    references: Mapping[str, Score]
    arrays: Mapping[str, npt.NDArray[np.generic]]


def _evaluate(
    trainer: Trainer, teacher: TrainedNetwork, task: Task, old: int, scores: npt.NDArray[np.float32]
) -> Evaluation:
    """Compare predictions and labels of the held-out images.

    Args:
        trainer: Trainer of the run.
        teacher: Teacher; its predictions of old images are a reference, unless its classes are others.
        task: Task of the student; the old classes come first.
        old: Number of old classes.
        scores: M x K scores of the student.
    """
    import numpy as np

    from benchmark.statistics import image_interval

    labels = task.labels(task.held_out)
    is_old = labels < old
    predicted = scores.argmax(1)
    correct = predicted == labels
    intervals = {"old": image_interval(correct[is_old]), "new": image_interval(correct[~is_old])}
    arrays = {
        "classes": np.asarray(task.classes, np.int32),
        "images": task.held_out.astype(np.int32),
        "labels": labels.astype(np.int32),
        "predicted_student": predicted.astype(np.int32),
    }
    if teacher.classes:
        embeddings = trainer.embed(teacher, task.data, task.held_out[is_old])
        by_teacher = teacher.network.head(embeddings).argmax(1).cpu().numpy()
        intervals["teacher_old"] = image_interval(by_teacher == labels[is_old])
        arrays["predicted_teacher"] = by_teacher.astype(np.int32)
    intervals["old_within_old"] = image_interval(scores[is_old, :old].argmax(1) == labels[is_old])
    references = {name: Score(interval.mean, (interval,)) for name, interval in intervals.items()}
    references["harmonic"] = Score(harmonic_mean(references["old"].value, references["new"].value))
    references |= unequal_class_scores(labels, predicted)
    interval = image_interval(correct)
    return Evaluation(Score(interval.mean, (interval,)), references, arrays)


def harmonic_mean(old: float, new: float) -> float:
    """Return 2 old new / (old + new), or 0 if both are 0."""
    return 2 * old * new / (old + new) if old + new else 0.0
