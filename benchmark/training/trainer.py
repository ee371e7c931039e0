"""The face of training that protocols see."""

from __future__ import annotations

from typing import ClassVar

import torch

from benchmark.data.episodes import Episodes
from benchmark.data.image_set import ImageSet, IntArray
from benchmark.data.task import Task
from benchmark.methods import METHODS, IncrementalDefaults
from benchmark.methods.requirements import Rebalance
from benchmark.spec import RunSpec
from benchmark.system.progress import Progress
from benchmark.training.checkpoints import Checkpoints
from benchmark.training.device import Device
from benchmark.training.episodic_loop import count_correct_answers
from benchmark.training.factory import Factory
from benchmark.training.parallel_students import train_students
from benchmark.training.student import train_student
from benchmark.training.teacher import get_teacher, teacher_is_stored
from benchmark.training.teacher_store import TeacherStore
from benchmark.training.trained_network import TrainedNetwork


class Trainer:
    """Makes the networks of one run: the protocol chooses the tasks, the settings of the run determine the rest."""

    factory_type: ClassVar[type[Factory]] = Factory

    def __init__(
        self, spec: RunSpec, teachers: TeacherStore, device: Device, progress: Progress,
        checkpoints: Checkpoints | None = None,
    ) -> None:  # fmt: skip
        self.device = device
        self._factory = self.factory_type(spec, teachers, device, progress, checkpoints)

    @property
    def incremental_defaults(self) -> IncrementalDefaults:
        """Settings of the run's method for incremental learning."""
        return METHODS.get(self._factory.spec.method).entry.incremental_defaults

    def get_teacher(self, task: Task, backbone: str | None = None) -> TrainedNetwork:
        """Load or train the teacher of ``task``; see ``teacher.get_teacher``."""
        return get_teacher(self._factory, task, backbone)

    def teacher_is_stored(self, task: Task) -> bool:
        """Return whether the teacher of ``task`` needs no training."""
        return teacher_is_stored(self._factory, task)

    def train_student(
        self, task: Task, teacher: TrainedNetwork, rebalance: Rebalance = "none", episode: tuple[int, int] | None = None
    ) -> TrainedNetwork:
        """Train a student of ``task`` with a teacher, if the run reads it; see ``student.train_student``."""
        return train_student(self._factory, task, self._read(teacher), rebalance, episode)

    def train_students(
        self, episodes: Episodes, base: Task, teacher: TrainedNetwork, crops: int
    ) -> tuple[TrainedNetwork, torch.Tensor]:
        """Train a student for each episode with a teacher, if the run reads it; see ``parallel_students``."""
        return train_students(self._factory, episodes, base, self._read(teacher), crops)

    def _read(self, teacher: TrainedNetwork) -> TrainedNetwork | None:
        return teacher if self._factory.spec.reads_teacher else None

    def evaluate_episodes(self, trained: TrainedNetwork, episodes: Episodes) -> IntArray:
        """Count the correct queries of each of E episodes, for a student whose method has its own head."""
        assert trained.episodic_method is not None
        return count_correct_answers(
            trained.network, trained.episodic_method, trained.task.data, episodes, trained.normalisation, self.device,
            self._factory.progress, size=self._factory.spec.training.input_size,
        )  # fmt: skip

    def embed(
        self, trained: TrainedNetwork, data: ImageSet, indices: IntArray, *, mirrored: bool = False
    ) -> torch.Tensor:
        """Return the embeddings of the images at ``indices``, or of their mirror images: len(indices) x D float32."""
        return self._factory.embed(trained, data, indices, mirrored=mirrored)

    def validate_networks(self, data: ImageSet, *, parallel: bool) -> None:
        """Raise ``InputError`` if the settings do not fit the networks; see ``Factory.validate_networks``."""
        self._factory.validate_networks(data, parallel=parallel)
