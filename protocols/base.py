"""The base of all protocols: settings, presets, a check of the data, and a run that returns a result.

Files in this folder import torch and numpy inside functions, so that listing the protocols is instant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from protocols.tuned_settings import Chosen, tuned_settings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from benchmark.data import ImageSet, Task
    from benchmark.data.image_set import IntArray
    from benchmark.methods.requirements import Start, TransferContext
    from benchmark.statistics import Interval
    from benchmark.training import TrainedNetwork, Trainer


@dataclass(frozen=True)
class Score:
    """A value in [0, 1], with its confidence intervals within one run."""

    value: float
    intervals: tuple[Interval, ...] = ()


@dataclass(frozen=True)
class Result:
    """The measurement of one run.

    Attributes:
        metric: Name of ``score``.
        score: Score of the student.
        n: Number of episodes or images that ``score`` is a mean of.
        student: Student; the first one if there are many.
        teacher: Teacher.
        references: Scores to compare with, such as the same metric of the teacher and of chance.
        arrays: Arrays that are saved beside the record.
        facts: More facts for the record.
    """

    metric: str
    score: Score
    n: int
    student: TrainedNetwork
    teacher: TrainedNetwork
    references: Mapping[str, Score] = field(default_factory=dict)
    arrays: Mapping[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def unequal_class_scores(labels: IntArray, predicted: IntArray) -> dict[str, Score]:
    """Return two references to read an accuracy by, if the judged classes are strongly unequal; else none.

    ``class_mean`` is the mean of the accuracies of all classes, of which ``chance`` is one over their number.
    ``largest_class`` is the accuracy of the answer that is always the largest class.

    Args:
        labels: Labels of M judged images.
        predicted: Predicted labels.
    """
    import numpy as np

    from benchmark.data.remarks import is_unequal

    _, label, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if not is_unequal(counts):
        return {}
    accuracies = np.bincount(label, predicted == labels) / counts
    return {"class_mean": Score(float(accuracies.mean())), "largest_class": Score(float(counts.max() / len(labels)))}


class Protocol:
    """Base of all protocols.

    Attributes:
        Settings: Dataclass of the protocol's settings.
        version: Rises when the same settings give other results than before.
        presets: Values by preset and section of the run's settings. ``quick`` is the default; tuned settings of each
            method complete it.
        trial: Settings of the protocol with which tuning evaluates, on validation data.
        reads_teacher: The teacher decides what a student is trained or judged on, whatever its method. Where it does
            not, a method that reads no teacher has the same result under each, and the key of its runs names none.
        tuned_at: Protocol of the family whose tuned settings apply if a protocol has none of its own.
    """

    Settings: ClassVar[type]
    version: ClassVar[int] = 1
    presets: ClassVar[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {"quick": {}}
    trial: ClassVar[Mapping[str, Any]] = {"split": "val"}
    reads_teacher: ClassVar[bool] = True
    tuned_at: ClassVar[str] = ""

    def __init__(self, name: str, settings: Any, fields: Mapping[str, int]) -> None:
        self.name = name
        self.settings = settings
        self.fields = fields

    @classmethod
    def preset(
        cls, preset: str, protocol: str, method: str, tuned: Chosen | None = None
    ) -> Mapping[str, Mapping[str, Any]]:
        """Return the values of a preset for a method, by section.

        Args:
            preset: Name of the preset.
            protocol: Name of the protocol.
            method: Name of the method.
            tuned: Settings that complete ``quick``; None for those that the suite has tuned.
        """
        values = cls.presets[preset]
        if preset != "quick":
            return values
        if tuned is None:
            tuned = tuned_settings(protocol, method) or tuned_settings(cls.tuned_at, method) or {}
        return {section: {**values.get(section, {}), **tuned.get(section, {})} for section in {**values, **tuned}}

    @classmethod
    def transfer_context(
        cls, fields: Mapping[str, int], settings: Any, student: str, teacher: str, start: Start
    ) -> TransferContext:
        """Return the conditions under which a method is used; they do not depend on the data.

        Args:
            fields: Numbers in the name of the protocol.
            settings: Settings of the protocol.
            student: Backbone of the student.
            teacher: Backbone of the teacher.
            start: Start of a student whose method allows several.

        Raises:
            InputError: If the fields are impossible.
        """
        raise NotImplementedError

    def check(self, data: ImageSet) -> None:
        """Raise ``DoesNotApply``, with the numbers, if the data set is too small for the protocol."""
        raise NotImplementedError

    def tasks(self, data: ImageSet, seed: int = 0) -> tuple[Task, Task]:
        """Return the task of the teacher, and the task of the student of that seed."""
        raise NotImplementedError

    @property
    def students(self) -> int:
        """Number of students of a run."""
        return 1

    def train_briefly(self, data: ImageSet, trainer: Trainer) -> tuple[TrainedNetwork, TrainedNetwork]:
        """Train a teacher and a student (or some of many), to measure the seconds of a step."""
        teacher_task, task = self.tasks(data)
        teacher = trainer.get_teacher(teacher_task)
        return teacher, trainer.train_student(task, teacher)

    def run(self, data: ImageSet, trainer: Trainer, seed: int) -> Result:
        """Train teacher and student, and evaluate the student."""
        raise NotImplementedError
