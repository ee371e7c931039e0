"""The training loop of many small students of one architecture at once.

A step of a small network on a few images costs more in calls than in arithmetic. The students share the calls of the
networks, of the optimiser and of the sums; each has its own loss. On one thread this cuts a step of conv4-16 to a third
on 5 images and to three quarters on 25; from 50 images on, it saves nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.backbones.grouped import GroupedNetwork
from benchmark.backbones.network import Network, Outputs
from benchmark.data.augmentation import to_device
from benchmark.data.sampling import balanced_batches, batches
from benchmark.errors import InputError
from benchmark.hashing import derive_seed
from benchmark.methods import Batch, Method
from benchmark.spec import Training
from benchmark.system.progress import Progress
from benchmark.training.checkpoints import Checkpoint, Snapshot
from benchmark.training.device import Device
from benchmark.training.finite import check_outputs
from benchmark.training.initialisation import draw_head
from benchmark.training.optimisation import build_optimiser, share_steps
from benchmark.training.term_log import TermLog, TrainingResult

MAX_PARALLEL_STUDENTS = 20
"""Students of a group: a larger group does not make their steps cheaper."""

MAX_PARALLEL_IMAGES = 250
"""Images of a group: their feature maps are in memory at the same time."""


def fit_parallel(
    students: Sequence[Network],
    methods: Sequence[Method],
    images: Tensor,
    labels: Tensor,
    teacher_outputs: Outputs | None,
    training: Training,
    *,
    seeds: Sequence[int],
    device: Device,
    progress: Progress,
    title: str,
    reset_heads: bool = True,
    group_size: int | None = None,
    rows: int = 20,
    checkpoint: Checkpoint | None = None,
) -> TrainingResult:
    """Train each of T students in place on its own task, as ``fit`` would train it alone.

    Args:
        students: T networks on the device.
        methods: T methods; ``prepare`` has been called.
        images: T x M x C x H x W float32, normalised, with all crops; nothing is augmented here.
        labels: T x M.
        teacher_outputs: Embeddings T x M x D and logits T x M x classes of the same images, or None.
        training: Steps, batches and optimiser of each student.
        seeds: T seeds of batches, heads and dropout.
        device: Device and precision.
        progress: Receives title, terms and rate.
        title: Name of the training.
        reset_heads: If False, a stage that asks for a new head keeps the old one.
        group_size: Students that share calls. It changes results by rounding, and what dropout draws.
        rows: Number of history rows.
        checkpoint: Place of the students that are finished; an interrupted training resumes there, bit for bit.

    Returns:
        Steps and images of all students, and the mean history.

    Raises:
        ValueError: If shapes do not match, networks cannot be grouped, methods differ, have a connector, read stages
            or weights of the student, lack teacher outputs or do not train the whole student.
        InputError: If the weights of all terms are 0.
        DivergedError: If the loss of a student is not finite.
    """
    tasks = _Tasks(students, methods, images, labels, teacher_outputs, seeds)
    tasks.check()
    log = _GroupLog(progress, title, training.steps, rows=rows, students=len(students))
    size = group_size or max(1, min(MAX_PARALLEL_STUDENTS, MAX_PARALLEL_IMAGES // training.batch_size))
    snapshot = checkpoint.load() if checkpoint else None
    with device.seeded(derive_seed(seeds[0], "dropout")), log.shown():
        finished = _restore(snapshot, students, training, log, device) if snapshot is not None else 0
        for start in range(finished, len(students), size):
            group = tasks.part(slice(start, start + size))
            log.begin_group(start, len(group.students))
            _train_group(group, training, device, reset_heads, log)
            finished = start + len(group.students)
            if checkpoint and (checkpoint.due() or finished == len(students)):
                checkpoint.save(_snapshot(students[:finished], log, device))
    return log.finish()


def predict_parallel(students: Sequence[Network], images: Tensor, *, device: Device) -> Tensor:
    """Compute the logits of each student on its own images.

    Args:
        students: T networks; they are evaluated in eval mode.
        images: T x Q x C x H x W.
        device: Device and precision.

    Returns:
        T x Q x classes float32.
    """
    size = max(1, min(MAX_PARALLEL_STUDENTS, MAX_PARALLEL_IMAGES // images.shape[1]))
    logits = []
    for start in range(0, len(students), size):
        grouped = GroupedNetwork(students[start : start + size])
        grouped.network.eval()
        pieces = images[start : start + size].to(device.torch).split(MAX_PARALLEL_IMAGES, dim=1)
        grouped.check(pieces[0][:, :2])
        with torch.inference_mode(), device.autocast():
            outputs = [torch.stack([output.logits for output in grouped(piece)]) for piece in pieces]
        logits.append(torch.cat(outputs, dim=1))
    return check_outputs(torch.cat(logits), "the logits of the students")


@dataclass(frozen=True)
class _Tasks:
    """The students of some tasks and everything they learn from, as the arguments of ``fit_parallel``."""

    students: Sequence[Network]
    methods: Sequence[Method]
    images: Tensor
    labels: Tensor
    teacher_outputs: Outputs | None
    seeds: Sequence[int]

    def part(self, chosen: slice) -> _Tasks:
        teacher = self.teacher_outputs and Outputs(
            {}, self.teacher_outputs.embedding[chosen], self.teacher_outputs.logits[chosen]
        )
        students, methods = self.students[chosen], self.methods[chosen]
        return _Tasks(students, methods, self.images[chosen], self.labels[chosen], teacher, self.seeds[chosen])

    def check(self) -> None:
        shape, teacher = self.labels.shape, self.teacher_outputs
        tensors = [self.images, *([teacher.embedding, teacher.logits] if teacher else [])]
        if self.images.ndim != 5 or any(x.shape[:2] != shape for x in tensors):
            raise ValueError(
                "expected labels T x M, images T x M x C x H x W, teacher outputs T x M x D and T x M x classes, got "
                + ", ".join(str(tuple(x.shape)) for x in (self.labels, *tensors))
            )
        if not 0 < len(self.students) == len(self.methods) == len(self.seeds) == shape[0]:
            raise ValueError(
                f"one student, method and seed per task: there are {len(self.students)}, {len(self.methods)} and "
                f"{len(self.seeds)} for {shape[0]} tasks"
            )
        method = self.methods[0]
        if any(type(m) is not type(method) or m.settings != method.settings for m in self.methods):
            raise ValueError("students trained in parallel have one method with the same settings")
        name, needs = type(method).__name__, method.needs
        if method.connector is not None or needs.taps or needs.trains != "all":
            raise ValueError(f"{name} has a connector, reads stages or does not train the whole student: use fit")
        if not all(parameter.requires_grad for student in self.students for parameter in student.parameters()):
            raise ValueError("a student has frozen parameters, which parallel training would move: use fit")
        if needs.teacher and teacher is None:
            raise ValueError(f"{name} learns from a teacher; pass teacher_outputs")


class _GroupLog(TermLog):
    """Log of groups that train one after the other; a term has one value per student.

    ``means`` holds, by stage, step and names, students x terms for each group. The history is their mean over students.
    """

    means: dict[tuple[str, int, tuple[str, ...]], list[Tensor]]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.means = {}
        self._first = 0

    def begin_group(self, first: int, students: int) -> None:
        self._first, self._students, self._step = first, students, 0

    def finish(self) -> TrainingResult:
        self.result.history = [
            {"stage": stage, "step": float(step), **dict(zip(names, torch.cat(parts).mean(0).tolist(), strict=True))}
            for (stage, step, names), parts in self.means.items()
        ]
        return super().finish()

    def check_students(self, students: Sequence[Network]) -> None:
        """Raise ``DivergedError`` if a weight of a student of the group is not finite."""
        for number, student in enumerate(students):
            self._check_weights(student, f"student {self._first + number}, ")

    def resume(self, students: int, seconds: float, training: Training) -> None:
        """Count students that an interrupted attempt has trained."""
        self._started -= seconds
        self.result.steps = students * training.steps
        self.result.images = self.result.steps * training.batch_size
        total = self._total // self._steps
        self._progress.say(f"{self._title}: {students} of {total} students are trained, resumes there")

    def _write_row(self) -> None:
        means = torch.stack([total / self._since for total in self._sums.values()], 1).cpu()
        finite = means.isfinite()
        if not finite.all():
            student = int(finite.all(1).logical_not().nonzero()[0])
            by_name = dict(zip(self._sums, finite[student].tolist(), strict=True))
            self._check_finite(by_name, f"student {self._first + student}, ")
        self.means.setdefault((self._stage, self._step, tuple(self._sums)), []).append(means)
        self._latest = dict(zip(self._sums, means.mean(0).tolist(), strict=True))


def _train_group(tasks: _Tasks, training: Training, device: Device, reset_heads: bool, log: _GroupLog) -> None:
    """Train the students of ``tasks`` as one grouped network."""
    grouped = GroupedNetwork(tasks.students)
    for student in tasks.students:
        student.zero_grad()
    images, labels = (x.to(device.torch) for x in (tasks.images, tasks.labels))
    teacher = tasks.teacher_outputs and [
        x.to(device.torch) for x in (tasks.teacher_outputs.embedding, tasks.teacher_outputs.logits)
    ]
    grouped.check(images[:, :2])
    grouped.network.train()
    seeded_labels = list(zip(tasks.labels.cpu().numpy(), tasks.seeds, strict=True))
    orders = [
        batches(y, training.batch_size, derive_seed(seed, "batches"), classes_per_batch=training.balanced_classes)
        for y, seed in seeded_labels
    ]
    task = torch.arange(len(orders), device=device.torch)[:, None]
    for stage, steps in share_steps(tasks.methods[0].stages(), training.steps):
        if stage.balanced:
            orders = [
                balanced_batches(y, training.batch_size, derive_seed(seed, "batches", stage.name))
                for y, seed in seeded_labels
            ]
        if stage.reset_head and reset_heads:
            for student, seed in zip(tasks.students, tasks.seeds, strict=True):
                draw_head(student, seed, stage)
            grouped.reload_heads()
        optimiser, scheduler = build_optimiser(grouped.network, tasks.methods[0], stage, steps, training)
        scaler = device.scaler()
        for step in range(steps):
            index = to_device(torch.from_numpy(np.stack([next(order) for order in orders])), device.torch)
            with device.autocast():
                outputs = grouped(images[task, index])
            teacher_outputs: Iterable[Outputs | None] = itertools.repeat(None, len(orders))
            if teacher:
                parts = zip(*(x[task, index] for x in teacher), strict=True)
                teacher_outputs = (Outputs({}, *part) for part in parts)
            terms: list[Mapping[str, Tensor]] = [
                method.loss(Batch(y, i, stage.name, step / steps), output, teacher_output)
                for method, y, i, output, teacher_output in zip(
                    tasks.methods, labels[task, index], index, outputs, teacher_outputs, strict=True
                )
            ]
            if not terms[0]:
                raise InputError(f"stage {stage.name!r} has nothing to minimise: all weights of its terms are 0")
            values = torch.stack([value for student_terms in terms for value in student_terms.values()])
            optimiser.zero_grad(set_to_none=True)
            scaler.scale(values.sum()).backward()
            if step == 0 and any(p.grad is not None for student in tasks.students for p in student.parameters()):
                raise ValueError(f"{type(tasks.methods[0]).__name__} reads the weights of the student: use fit")
            scaler.step(optimiser)
            scaler.update()
            scheduler.step()
            last = step + 1 == steps
            by_student = values.detach().view(len(orders), -1)
            log.add(dict(zip(terms[0], by_student.unbind(1), strict=True)))
            log.end_step(stage.name, images=len(orders) * training.batch_size, last=last)
            log.report(last=last)
    grouped.copy_back()
    log.check_students(tasks.students)
    for student in tasks.students:
        student.eval()


def _snapshot(students: Sequence[Network], log: _GroupLog, device: Device) -> Snapshot:
    """Save the students that are trained, the means of their terms, and the states of the generators."""
    tensors = {f"{t}/{name}": value for t, one in enumerate(students) for name, value in one.state_dict().items()}
    tensors |= {f"means/{row}": torch.cat(parts) for row, parts in enumerate(log.means.values())}
    tensors |= {f"random/{name}": value for name, value in device.random_state().items()}
    seconds = log.finish().seconds
    return Snapshot(tensors, {"students": len(students), "reports": list(log.means), "seconds": seconds})


def _restore(
    snapshot: Snapshot, students: Sequence[Network], training: Training, log: _GroupLog, device: Device
) -> int:
    """Restore students, means and generators; return how many students are trained."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in snapshot.tensors.items():
        place, _, rest = name.partition("/")
        parts.setdefault(place, {})[rest] = value
    count: int = snapshot.facts["students"]
    for t in range(count):
        students[t].load_state_dict(parts[str(t)])
        students[t].eval()
    for row, (stage, step, names) in enumerate(snapshot.facts["reports"]):
        log.means[stage, step, tuple(names)] = [parts["means"][str(row)]]
    device.set_random_state(parts["random"])
    log.resume(count, snapshot.facts["seconds"], training)
    return count
