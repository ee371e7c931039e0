"""What a protocol is: settings, presets, a check of the data, and a run that ends in a result.

Files in this folder import neither torch nor numpy at their top, so that listing the protocols stays instant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from benchmark.errors import InputError
from benchmark.hashing import derive_seed
from protocols.tuned_settings import tuned_settings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from benchmark.data import ImageSet, Task
    from benchmark.methods.base import Start, TransferContext
    from benchmark.statistics import Interval
    from benchmark.training import TrainedNetwork, Trainer


def class_order(data: ImageSet, purpose: str) -> tuple[int, ...]:
    """All classes of a set in the one order that positions refer to: its own for this purpose, or drawn, once."""
    import numpy as np

    if purpose in data.orders:
        return data.orders[purpose]
    drawn = np.random.default_rng(derive_seed(0, "class order", data.name)).permutation(len(data.classes))
    return tuple(drawn.tolist())


def check_judged_side(settings: Any) -> None:
    """Raise ``InputError`` where validation images are to be judged and none are held out."""
    if settings.split == "val" and not settings.val:
        raise InputError("protocol.split = val judges validation images, of which protocol.val = 0 leaves none")


@dataclass(frozen=True)
class Score:
    """A value in [0, 1] and its intervals within one run."""

    value: float
    intervals: tuple[Interval, ...] = ()


@dataclass(frozen=True)
class Result:
    """What one run measured.

    metric: the name of ``score``; n: how many episodes or images it is a mean of; references: what stands beside it,
    such as the same metric of ceiling and floor; arrays: what is saved beside the record; facts: more for the record.
    """

    metric: str
    score: Score
    n: int
    student: TrainedNetwork
    teacher: TrainedNetwork
    references: Mapping[str, Score] = field(default_factory=dict)
    arrays: Mapping[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


class Protocol:
    """Base of all protocols. ``version`` rises when the same settings give other results than before.

    ``presets`` maps a preset's name to values per section of the run's settings; ``quick`` is the default, which tuning
    completes for each method. ``trial``: its own settings in which tuning judges, on validation data. ``tuned_at``: the
    protocol whose tuned settings those of the family take that have none of their own.
    """

    Settings: ClassVar[type]
    version: ClassVar[int] = 1
    presets: ClassVar[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {"quick": {}}
    trial: ClassVar[Mapping[str, Any]] = {"split": "val"}
    tuned_at: ClassVar[str] = ""

    def __init__(self, name: str, settings: Any, fields: Mapping[str, int]) -> None:
        self.name = name
        self.settings = settings
        self.fields = fields

    @classmethod
    def preset(cls, preset: str, protocol: str, method: str) -> Mapping[str, Mapping[str, Any]]:
        """A preset's values by section for a method: for ``quick`` with what tuning has chosen, by protocol."""
        values = cls.presets[preset]
        if preset != "quick":
            return values
        chosen: Mapping[str, Mapping[str, Any]] = {}
        for where in (protocol, cls.tuned_at):
            chosen = chosen or tuned_settings(where, method) or {}
        return {part: {**values.get(part, {}), **chosen.get(part, {})} for part in {**values, **chosen}}

    @classmethod
    def transfer_context(
        cls, fields: Mapping[str, int], settings: Any, student: str, teacher: str, start: Start
    ) -> TransferContext:
        """What a method meets here, known before any data by the fields of the name and the networks.

        Impossible fields raise ``InputError``.
        """
        raise NotImplementedError

    def check(self, data: ImageSet) -> None:
        """Raise ``DoesNotApply`` with the numbers where this data set cannot carry the protocol."""
        raise NotImplementedError

    def tasks(self, data: ImageSet, seed: int = 0) -> tuple[Task, Task]:
        """What the teacher is trained on, and what the student of that seed is."""
        raise NotImplementedError

    @property
    def students(self) -> int:
        """How many students a run trains."""
        return 1

    def train_briefly(self, data: ImageSet, trainer: Trainer) -> tuple[TrainedNetwork, TrainedNetwork]:
        """Have a teacher and a student (or some of many) made, to see what a step takes."""
        teacher_task, task = self.tasks(data)
        teacher = trainer.teacher(teacher_task)
        return teacher, trainer.student(task, teacher)

    def run(self, data: ImageSet, trainer: Trainer, seed: int) -> Result:
        """Have teacher and student made by ``workshop`` and measure the student."""
        raise NotImplementedError
