"""Many students, one for each small task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmark.backbones.network import Network, Outputs
from benchmark.data.augmentation import Crops, ImageLoader, Normalisation
from benchmark.data.episodes import Episodes
from benchmark.data.image_set import ImageSet, IntArray
from benchmark.data.task import Task
from benchmark.hashing import derive_seed
from benchmark.methods import METHODS, LabelSpaces, Method, Needs
from benchmark.training.factory import Factory
from benchmark.training.finite import check_outputs
from benchmark.training.initialisation import start_from
from benchmark.training.parallel_loop import fit_parallel, predict_parallel
from benchmark.training.teacher import get_teacher
from benchmark.training.term_log import TrainingResult
from benchmark.training.trained_network import TrainedNetwork, required


def train_students(
    factory: Factory,
    episodes: Episodes,
    base: Task,
    teacher: TrainedNetwork | None,
    crops: int,
    max_pixels: int = 1 << 26,
) -> tuple[TrainedNetwork, Tensor]:
    """Train a student on the support images of each episode, and classify the queries.

    A student that starts trained starts from a network of its own backbone, trained on ``base`` as the teacher is.

    Args:
        factory: Settings of the run.
        episodes: T tasks of novel classes.
        base: Task of the teacher.
        teacher: Teacher of all students; None if the run does not read it.
        crops: Crops of each support image, the same for all tasks; the first one is the image itself.
        max_pixels: Numbers of pixels of a group of students.

    Returns:
        The first student with the metadata of all, and the logits of all queries: T x Q x classes.
    """
    spec, data, count = factory.spec, base.data, len(episodes.classes)
    entry = METHODS.get(spec.method).entry
    needs, start = entry.needs, entry.starts(spec.student.start)
    start_network = None
    if start == "teacher":
        is_frozen = needs.trains == "nothing"
        start_network = required(teacher) if is_frozen else get_teacher(factory, base, spec.student.backbone)
    clock = factory.teachers.output_cache.clock
    started = clock.now()
    if start_network is not None and start_network is teacher:
        normalisation = start_network.normalisation
    else:
        normalisation = factory.normalisation(data, base.train)
    support = SupportSet.build(
        factory, episodes, data, teacher, normalisation, needs, crops if needs.trains != "nothing" else 1
    )
    queries = ImageLoader(
        data, episodes.query.ravel(), normalisation, padding=0, size=spec.training.input_size,
        device=factory.device.torch,
    )  # fmt: skip
    result, logits, first = TrainingResult(), [], None
    group_size = max(1, max_pixels // support.pixels_per_task)
    for low in range(0, count, group_size):
        group = range(low, min(low + group_size, count))
        networks, methods = _build_students(factory, group, episodes, base, teacher, start_network, support)
        if needs.trains != "nothing":
            title = f"{spec.method} seed {spec.seed}, tasks {low + 1} to {group.stop} of {count}"
            part = _train_group(factory, group, networks, methods, support, title, reset_heads=start == "fresh")
            result = result.merged(part)
        logits.append(_logits(factory, group, networks, queries, episodes.query[0].size, needs))
        first = first or networks[0].eval().requires_grad_(False)
    assert first is not None
    metadata = factory.student_metadata(first, start, result, clock.now() - started, students=count)
    return TrainedNetwork(first, base, normalisation, {**metadata, "students": count}), torch.cat(logits)


@dataclass(frozen=True)
class SupportSet:
    """The support images of all tasks in the same crops, and what the teacher computes for them.

    Attributes:
        indices: T x M indices into the data, sorted by class within a task.
        positions: T x M positions among the P different images.
        crops: V, the number of crops of each image.
        labels: M labels, the same for all tasks.
        pixels: P x V x C x H x W.
        teacher_outputs: Embeddings P x V x D and logits P x V x classes, if the method reads them.
        embeddings: P x D of the images themselves by the teacher, if the method reads them.
    """

    indices: IntArray
    positions: IntArray
    crops: int
    labels: Tensor
    pixels: Tensor
    teacher_outputs: Outputs | None
    embeddings: Tensor | None

    @classmethod
    def build(
        cls, factory: Factory, episodes: Episodes, data: ImageSet, teacher: TrainedNetwork | None,
        normalisation: Normalisation, needs: Needs, crops: int,
    ) -> SupportSet:  # fmt: skip
        """Cut the crops and compute the teacher's outputs, once for all tasks."""
        spec, device = factory.spec, factory.device.torch
        count, ways, shots = episodes.support.shape
        indices = episodes.support.reshape(count, -1)
        pool, positions = np.unique(indices, return_inverse=True)
        loader = ImageLoader(
            data, pool, normalisation, padding=spec.training.crop_padding, size=spec.training.input_size, device=device
        )
        generator = torch.Generator().manual_seed(derive_seed(spec.seed, "crops"))
        sampled = [Crops.plain(len(pool)), *(loader.sample_padded_crops(len(pool), generator) for _ in range(1, crops))]
        every = torch.arange(len(pool), device=device)
        pixels = torch.stack([loader.crop(every, crop) for crop in sampled], 1)
        outputs = embeddings = None
        if needs.teacher:
            frozen = factory.frozen_teacher(required(teacher), data, normalisation)
            outputs = frozen.outputs_of_crops(pool, sampled, pixels)
        if needs.train_embeddings:
            embeddings = factory.embed(required(teacher), data, pool).clone()
        labels = torch.arange(ways, device=device).repeat_interleave(shots)
        return cls(indices, positions.reshape(indices.shape), crops, labels, pixels, outputs, embeddings)

    def prepared(self, task: int, *, augmented: bool) -> tuple[Tensor, Tensor | None]:
        """Return the labels of a task's images and the teacher's embeddings of them, if the method reads them.

        Args:
            task: Number of the task.
            augmented: Whether all crops of the images are meant, not the images themselves.
        """
        positions = self.positions[task]
        if self.embeddings is not None and augmented:
            assert self.teacher_outputs is not None
            every_crop = self.teacher_outputs.embedding[positions].flatten(0, 1)
            return self.labels.repeat_interleave(self.crops), every_crop
        return self.labels, None if self.embeddings is None else self.embeddings[positions]

    @property
    def pixels_per_task(self) -> int:
        """Numbers of pixels of one task."""
        return self.indices.shape[1] * self.pixels[0].numel()


def _build_students(
    factory: Factory, group: Sequence[int], episodes: Episodes, base: Task, teacher: TrainedNetwork | None,
    start_network: TrainedNetwork | None, support: SupportSet,
) -> tuple[list[Network], list[Method]]:  # fmt: skip
    """Build students and methods of the tasks of a group."""
    spec = factory.spec
    networks, methods = [], []
    for t in group:
        task = Task(base.data, tuple(episodes.classes[t].tolist()), support.indices[t], episodes.query[t].ravel())
        network = factory.network(spec.student.backbone, task, derive_seed(spec.seed, "student", t))
        labels = LabelSpaces(task.classes, base.classes if teacher else ())
        seed = derive_seed(spec.seed, "task", t)
        method = factory.run_method(labels, network, teacher.network if teacher else None, base.data, seed)
        if start_network is not None:
            start_from(start_network.network, network, labels)
        method.prepare(network, *support.prepared(t, augmented=method.augments_train_embeddings))
        networks.append(network)
        methods.append(method)
    return networks, methods


def _train_group(
    factory: Factory, group: range, networks: list[Network], methods: list[Method], support: SupportSet, title: str,
    *, reset_heads: bool,
) -> TrainingResult:  # fmt: skip
    """Train the students of a group."""
    spec, teacher = factory.spec, support.teacher_outputs
    chosen = torch.from_numpy(support.positions[group.start : group.stop]).to(factory.device.torch)
    outputs = teacher and Outputs({}, *(x[chosen].flatten(1, 2) for x in (teacher.embedding, teacher.logits)))
    return fit_parallel(
        networks, methods, support.pixels[chosen].flatten(1, 2),
        support.labels.repeat_interleave(support.crops).expand(len(group), -1), outputs, spec.training,
        seeds=[derive_seed(spec.seed, "task", t) for t in group], device=factory.device, progress=factory.progress,
        title=title, reset_heads=reset_heads,
        checkpoint=factory.checkpoint(spec.key, f"students-{group.start + 1}-{group.stop}"),
    )  # fmt: skip


def _logits(
    factory: Factory, group: range, networks: list[Network], queries: ImageLoader, queries_per_task: int, needs: Needs
) -> Tensor:
    """Classify the queries of a group: T x Q x classes."""
    first, last = group.start * queries_per_task, group.stop * queries_per_task
    pixels = queries.plain(torch.arange(first, last, device=factory.device.torch))
    pixels = pixels.unflatten(0, (len(group), queries_per_task))
    if needs.trains == "all":
        return predict_parallel(networks, pixels, device=factory.device)
    with torch.inference_mode(), factory.device.autocast():
        logits = [network.eval()(x).float().logits for network, x in zip(networks, pixels, strict=True)]
    return check_outputs(torch.stack(logits), "the logits of the students")
