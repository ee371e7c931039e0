"""Networks, methods and input statistics of one run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmark.backbones.grouped import GroupedNetwork
from benchmark.backbones.network import Network, build_network
from benchmark.data.augmentation import PUBLISHED, Normalisation
from benchmark.data.image_set import ImageSet, IntArray
from benchmark.data.task import Task
from benchmark.errors import InputError
from benchmark.methods import LabelSpaces, Method
from benchmark.methods.external_loop import ExperienceMethod
from benchmark.spec import RunSpec
from benchmark.system.progress import Progress
from benchmark.training.checkpoints import Checkpoint, Checkpoints
from benchmark.training.device import Device
from benchmark.training.external_loop import check_external
from benchmark.training.frozen_teacher import FrozenTeacher
from benchmark.training.inference import accuracy, embed
from benchmark.training.initialisation import build_method
from benchmark.training.teacher_store import TeacherStore
from benchmark.training.term_log import TrainingResult
from benchmark.training.trained_network import TrainedNetwork


@dataclass(frozen=True)
class Factory:
    """Builds what the settings of one run determine.

    Attributes:
        spec: The run.
        teachers: Stored teachers and the cache of their outputs.
        device: Device and precision.
        progress: Receives messages and the progress of trainings.
        checkpoints: Place of interrupted trainings, if they are kept.
    """

    spec: RunSpec
    teachers: TeacherStore
    device: Device
    progress: Progress
    checkpoints: Checkpoints | None = None

    def network(self, backbone: str, task: Task, seed: int) -> Network:
        """Build a network for the classes of ``task``; a pretrained backbone gets a new head."""
        pretrained = self.spec.pretrained
        classes = len(task.classes)
        if pretrained is not None and backbone == pretrained.name:
            network = pretrained.network()
            network.replace_head(classes, seed)
        else:
            channels = task.data.images.shape[3]
            network = build_network(
                backbone, channels=channels, size=self.input_size(task.data), classes=classes, seed=seed
            )
        return network.to(self.device.torch)

    def method(
        self, name: str, settings: Any, labels: LabelSpaces, student: Network, teacher: Network | None,
        data: ImageSet, seed: int,
    ) -> Method:  # fmt: skip
        """Build a method for the networks of a task."""
        return build_method(
            name, settings, labels, student, teacher, seed, channels=data.images.shape[3], size=self.input_size(data)
        )

    def run_method(self, labels: LabelSpaces, student: Network, teacher: Network, data: ImageSet, seed: int) -> Method:
        """Build the method of the run."""
        return self.method(self.spec.method, self.spec.method_settings, labels, student, teacher, data, seed)

    def frozen_teacher(self, teacher: TrainedNetwork, data: ImageSet, student_norm: Normalisation) -> FrozenTeacher:
        """Prepare a teacher for the training of students on ``data``."""
        return FrozenTeacher(
            teacher.network, teacher.normalisation, student_norm, self.device,
            embedding_cache=teacher.embedding_cache, output_cache=self.teachers.output_cache,
            identity=self._cache_identity(teacher, data),
        )  # fmt: skip

    def normalisation(self, data: ImageSet, indices: IntArray) -> Normalisation:
        """Return the input statistics that the settings name; ``data`` computes them from the images at ``indices``."""
        name = self.spec.training.normalisation
        if name == "data":
            return Normalisation.of(data, indices)
        if data.images.shape[3] != 3:
            raise InputError(f"training.normalisation = {name} is of RGB images, {data.name} is grey; take data")
        return PUBLISHED[name]

    def input_size(self, data: ImageSet) -> int:
        """Return the side length of the networks' input in pixels."""
        return self.spec.training.input_size or data.images.shape[1]

    def checkpoint(self, key: str, name: str) -> Checkpoint | None:
        """Return the place of one training of the run or teacher ``key``, if checkpoints are kept."""
        return self.checkpoints.part(key, name) if self.checkpoints else None

    def student_metadata(
        self, network: Network, start: str, result: TrainingResult, seconds: float, students: int = 1
    ) -> dict[str, Any]:
        """Return what the record says about a student."""
        return {
            "backbone": self.spec.student.backbone, "start": start, "parameters": network.parameter_count,
            **result.summary(seconds=seconds, students=students),
        }  # fmt: skip

    def accuracy(self, network: Network, task: Task, normalisation: Normalisation) -> float | None:
        """Return the accuracy on the held-out images of ``task``, or None if there are none."""
        size = self.spec.training.input_size
        return accuracy(network, task, task.held_out, normalisation, self.device, size=size)

    def embed(self, trained: TrainedNetwork, data: ImageSet, indices: IntArray) -> torch.Tensor:
        """Return the embeddings of the images at ``indices``: len(indices) x D float32."""
        cache = trained.embedding_cache
        if cache is not None and cache.data is data:
            embeddings = cache.embed(indices)
            cache.save()
            return embeddings

        def compute() -> torch.Tensor:
            size = self.spec.training.input_size
            return embed(trained.network, data, indices, trained.normalisation, self.device, size=size)

        if "key" not in trained.metadata:
            return compute()
        what = ["embeddings", self._cache_identity(trained, data), dataclasses.asdict(trained.normalisation)]
        return self.teachers.output_cache.get(self.device, what, (indices,), lambda: (compute(),))[0]

    def validate_networks(self, data: ImageSet, *, parallel: bool) -> None:
        """Build both networks and the method once, without training.

        Args:
            data: Images.
            parallel: Whether many students are trained together.

        Raises:
            InputError: If the settings do not fit the networks, or the student cannot be trained in parallel.
        """
        spec = self.spec
        task = Task(data, (0, 1, 2), np.empty(0, np.int64), np.empty(0, np.int64))
        student, teacher = (self.network(name, task, 0) for name in (spec.student.backbone, spec.teacher.backbone))
        labels = LabelSpaces((0, 1, 2), () if spec.pretrained else (0, 1))
        method = self.run_method(labels, student, teacher, data, 0)
        if isinstance(method, ExperienceMethod):
            check_external(spec.training, self.device)
        if parallel and spec.training.crop != "padded":
            raise InputError(f"training.crop = {spec.training.crop}: the students of {spec.protocol} see padded crops")
        if parallel and method.needs.trains == "all":
            try:
                GroupedNetwork([student])
            except ValueError as error:
                raise InputError(
                    f"student {spec.student.backbone} cannot be trained in parallel with others, as {spec.protocol} "
                    f"does: {error}; take a backbone of plain convolutions, such as conv4-16"
                ) from None

    def _cache_identity(self, trained: TrainedNetwork, data: ImageSet) -> list[Any]:
        """Identify a stored network and its input."""
        return [trained.metadata["key"], data.fingerprint, data.background, self.spec.training.input_size]
