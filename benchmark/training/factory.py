"""Networks, methods and input statistics of one run."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmark.backbones.grouped import GroupedNetwork
from benchmark.backbones.network import Network, build_network
from benchmark.data.augmentation import PUBLISHED, Crops, ImageLoader, Normalisation
from benchmark.data.image_set import ImageSet, IntArray
from benchmark.data.task import Task
from benchmark.errors import InputError
from benchmark.hashing import derive_seed
from benchmark.methods import LabelSpaces, Method
from benchmark.methods.external_loop import ExperienceMethod
from benchmark.spec import RunSpec
from benchmark.system.progress import Progress
from benchmark.training.checkpoints import Checkpoint, Checkpoints
from benchmark.training.device import Device
from benchmark.training.embedding_cache import EmbeddingCache
from benchmark.training.external_loop import check_external
from benchmark.training.finite import check_outputs
from benchmark.training.frozen_teacher import FrozenTeacher
from benchmark.training.inference import accuracy, embed
from benchmark.training.initialisation import build_method
from benchmark.training.teacher_store import TeacherStore
from benchmark.training.term_log import TrainingResult
from benchmark.training.trained_network import TrainedNetwork

_MAX_CACHE_BYTES = 1 << 29
"""The most memory that the embeddings of all views of a training may take."""


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

    def run_method(
        self, labels: LabelSpaces, student: Network, teacher: Network | None, data: ImageSet, seed: int
    ) -> Method:
        """Build the method of the run."""
        return self.method(self.spec.method, self.spec.method_settings, labels, student, teacher, data, seed)

    def frozen_teacher(
        self, teacher: TrainedNetwork, data: ImageSet, student_norm: Normalisation, cache: EmbeddingCache | None = None
    ) -> FrozenTeacher:
        """Prepare a teacher for the training of students on ``data``; ``cache`` holds its embeddings by view."""
        return FrozenTeacher(
            teacher.network, teacher.normalisation, student_norm, self.device,
            embedding_cache=cache or teacher.embedding_cache, output_cache=self.teachers.output_cache,
            identity=self._cache_identity(teacher, data),
        )  # fmt: skip

    def view_cache(self, teacher: TrainedNetwork, task: Task, passes: float) -> EmbeddingCache | None:
        """Return the cache of a teacher's embeddings by view, if a training shows it more images than there are views.

        A view is a crop of an image, mirrored or not. Each is computed once; its files serve later runs. On a GPU,
        only the embeddings of pretrained teachers are kept.

        Args:
            teacher: Teacher.
            task: Task of the student.
            passes: Images that the training shows to the teacher.
        """
        if teacher.embedding_cache is not None or self.device.torch.type != "cpu":
            return teacher.embedding_cache
        training, data = self.spec.training, task.data
        side = training.input_size or 0
        room = [length + 2 * training.crop_padding - (side or length) + 1 for length in data.images.shape[1:3]]
        views = len(task.train) * math.prod(room) * (2 if data.flip_invariant else 1)
        size = 4 * views * teacher.network.head.in_features
        if training.crop != "padded" or views > passes or size > _MAX_CACHE_BYTES:
            return None
        return EmbeddingCache(
            teacher.network, ["trained", teacher.metadata["key"]], teacher.normalisation, data, self.device,
            self.teachers.root / "views", self.progress, side, self.teachers.output_cache.clock, task.train,
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

    def embed(
        self, trained: TrainedNetwork, data: ImageSet, indices: IntArray, *, mirrored: bool = False
    ) -> torch.Tensor:
        """Return the embeddings of the images at ``indices``, or of their mirror images: len(indices) x D float32.

        Raises:
            DivergedError: An embedding is not finite.
        """
        cache = trained.embedding_cache
        if cache is not None and cache.data is data:
            crops = Crops.plain(len(indices))
            embeddings = cache.embed(indices, crops._replace(mirrored=torch.full((len(indices),), mirrored)))
            cache.save()
            return check_outputs(embeddings, f"embeddings by teacher {trained.metadata['backbone']}")

        def compute() -> torch.Tensor:
            size = self.spec.training.input_size
            return embed(
                trained.network, data, indices, trained.normalisation, self.device, size=size, mirrored=mirrored
            )

        if "key" not in trained.metadata:
            return compute()
        what = ["embeddings", self._cache_identity(trained, data), dataclasses.asdict(trained.normalisation), mirrored]
        return self.teachers.output_cache.get(self.device, what, (indices,), lambda: (compute(),))[0]

    def train_embeddings(self, teacher: TrainedNetwork, task: Task, *, augmented: bool) -> torch.Tensor:
        """Return the teacher's embeddings of the training images of ``task``: N x D float32.

        Args:
            teacher: Teacher, in eval mode.
            task: Task of the student.
            augmented: Whether to embed one random crop of each image, as training shows them, or the image itself.
        """
        if not augmented:
            return self.embed(teacher, task.data, task.train).clone()
        training = self.spec.training
        images = ImageLoader(
            task.data, task.train, teacher.normalisation,
            padding=training.crop_padding, size=training.input_size, crop=training.crop, device=self.device.torch,
        )  # fmt: skip
        generator = torch.Generator().manual_seed(derive_seed(self.spec.seed, "embedded crops"))
        frozen = self.frozen_teacher(teacher, task.data, teacher.normalisation)
        parts = []
        for positions in torch.arange(len(task.train)).split(64):
            crops = images.sample_crops(len(positions), generator)
            pixels = images.crop(positions.to(self.device.torch), crops)
            parts.append(frozen(task.train[positions.numpy()], crops, pixels, stages=False).embedding)
        return check_outputs(torch.cat(parts), f"embeddings by teacher {teacher.metadata['backbone']}")

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
