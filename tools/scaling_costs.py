"""The costs that ``scaling.py`` measures: each at some sizes, in the process that calls."""

from __future__ import annotations

import functools
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

Result = TypeVar("Result")

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.data import ImageSet
    from benchmark.data.task import Task
    from benchmark.experiment.planning import Plan

_PER_CLASS, _CLASSES, _SIDE, _EMBEDDING = 20, 100, 16, 64
"""Images of a class where classes grow; classes of every other set; side of the images; width of embeddings."""

_MEMORY = 10_000
"""Rows of the memory of crd."""

_STEPS = 6
"""Steps whose seconds are measured, after a first one."""

_SLOW = 0.5
"""Seconds of a step from which one round is enough."""


@dataclass(frozen=True)
class Job:
    """What one process measures.

    Attributes:
        axis: What grows.
        subject: The method or loss; empty where all parts are measured.
        sizes: Sizes in ascending order.
    """

    axis: str
    subject: str
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Point:
    """The cost of one part at one size.

    Attributes:
        axis: What grows.
        part: What is measured.
        size: The size.
        seconds: Seconds of the processor.
        bytes: High-water mark of memory so far, less that of the libraries when they are loaded.
    """

    axis: str
    part: str
    size: int
    seconds: float
    bytes: float


@dataclass(frozen=True)
class Loss:
    """A loss that is measured alone: forward and backward.

    Attributes:
        name: Its name in ``benchmark.losses``.
        time: Documented order of its seconds in the batch.
        memory: Documented order of its memory.
        options: Options of the call.
    """

    name: str
    time: str
    memory: str
    options: Mapping[str, Any]


LOSSES = {
    "refilled": Loss("tuple_matching_loss", "n^2 log n", "n^2", {}),
    "refilled, triplets": Loss("tuple_matching_loss", "n^2 log n", "n^2", {"tuples": "triplet"}),
    "rkd": Loss("rkd_angle_loss", "n^3", "n^2", {}),
    "rkd, distances": Loss("rkd_distance_loss", "n^2", "n^2", {}),
    "sp": Loss("similarity_preserving_loss", "n^2", "n^2", {}),
    "pkt": Loss("pkt_loss", "n^2", "n^2", {}),
    "crd": Loss("crd_loss", "n", "n", {}),
    "dist": Loss("dist_loss", "n", "n", {}),
    "nst": Loss("nst_loss", "n", "n", {}),
    "at": Loss("attention_transfer_loss", "n", "n", {}),
}
"""Losses by method; a method of several has its dearest first."""

STEP_METHODS = ("ce", "kd", "refilled", "rkd", "sp", "pkt", "crd")
"""Methods whose step is measured against the batch."""


def measure(job: Job) -> Iterator[Point]:
    """Yield the costs of a job, measured in this process on one thread."""
    import torch

    from benchmark.training import select_device

    torch.set_num_threads(1)
    select_device("cpu")  # the allocator is that of training
    before = _peak_bytes()
    subjects = {
        "classes": _around, "images": _around, "batch": _step_by_batch,
        "loss": _loss, "students": _students, "seeds": _seeds,
    }  # fmt: skip
    parts = subjects[job.axis]
    if parts is _around:  # a trial of all parts would reserve more memory than the set takes
        for name, overrides in _PROTOCOLS.items():
            _plan(name, "kd", synthetic_set(20, 400), *overrides)
    else:
        for _ in parts(job, job.sizes[0]):  # seconds of first use are no part of a cost
            pass
    for size in job.sizes:
        for part, seconds in parts(job, size):
            yield Point(job.axis, part, size, seconds, max(0.0, _peak_bytes() - before))


def _peak_bytes() -> float:
    """Return the high-water mark of this process's memory.

    On Linux ``ru_maxrss`` of a new process begins at that of the process that started it, ``VmHWM`` does not.
    """
    import resource

    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text(encoding="utf-8").splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _timed(call: Callable[[], Result], rounds: int = 1) -> tuple[float, Result]:
    """Return the smallest number of seconds of the processor in as many rounds, and the result."""
    seconds = []
    for _ in range(rounds):
        began = time.process_time()
        result = call()
        seconds.append(time.process_time() - began)
    return min(seconds), result


def _loss(job: Job, size: int) -> Iterator[tuple[str, float]]:
    import torch

    import benchmark.losses

    loss = LOSSES[job.subject]
    function = getattr(benchmark.losses, loss.name)
    student, *rest = _loss_inputs(loss.name, size)

    def step() -> None:
        leaf = student.clone().requires_grad_()
        torch.autograd.grad(function(leaf, *rest, **loss.options), leaf)

    rounds = 5 if _timed(step)[0] < _SLOW else 1
    yield job.subject, _timed(step, rounds)[0]


def _loss_inputs(name: str, size: int) -> tuple[Tensor, ...]:
    """Draw the inputs of a loss for a batch."""
    import torch
    import torch.nn.functional as F

    from benchmark.losses import negative_pool, sample_negatives

    torch.manual_seed(0)
    labels = torch.arange(size) % _CLASSES
    if name in ("similarity_preserving_loss", "nst_loss", "attention_transfer_loss"):
        return torch.randn(size, 32, 8, 8), torch.randn(size, 32, 8, 8)
    if name == "dist_loss":
        return torch.randn(size, _CLASSES), torch.randn(size, _CLASSES)
    student, teacher = torch.randn(2, size, _EMBEDDING)
    if name == "crd_loss":
        memory = F.normalize(torch.randn(_MEMORY, _EMBEDDING), dim=1)
        negatives = sample_negatives(negative_pool(torch.arange(_MEMORY) % _CLASSES, _CLASSES), labels, 1024)
        units = F.normalize(student, dim=1), F.normalize(teacher, dim=1)
        return *units, memory, memory, torch.arange(size), negatives, torch.zeros(2)
    return (student, teacher, labels) if name == "tuple_matching_loss" else (student, teacher)


def synthetic_set(classes: int, images: int) -> ImageSet:
    """Draw grey images of noise, 16 x 16, with as many of each class."""
    import numpy as np

    from benchmark.data import ImageSet

    pixels = np.random.default_rng(0).integers(0, 256, (images, _SIDE, _SIDE, 1), np.uint8)
    return ImageSet(
        name="synthetic",
        images=pixels,
        labels=np.arange(images, dtype=np.int64) % classes,
        groups=np.arange(images, dtype=np.int64),
        classes=tuple(f"class {c}" for c in range(classes)),
        splits={"train": tuple(range(classes // 2)), "test": tuple(range(classes // 2, classes))},
    )


def _plan(protocol: str, method: str, data: ImageSet, *overrides: str) -> Plan:
    """Plan a run of one step with small networks on an opened set, which takes the place of ``tiny``."""
    from benchmark.experiment.planning import make_plan
    from benchmark.experiment.request import Request

    backbones = "student.backbone=conv4-16", "teacher.backbone=conv4-16"
    request = Request(protocol, method, "tiny", overrides=(*backbones, *overrides), limit_steps=1)
    return make_plan(request, Path(), opened={"tiny": data})


_PROTOCOLS = {
    "distill-overlap50": ("protocol.images_per_class=0",),
    "fewshot-5way1shot": ("protocol.episodes=200", "protocol.queries=3"),
    "incremental-1step-5exemplars": (),
}


def _around(job: Job, size: int) -> Iterator[tuple[str, float]]:
    """Measure all that a run does, from opening the set to its evaluation."""
    from benchmark.data.sampling import balanced_batches, batches

    classes, images = (size, size * _PER_CLASS) if job.axis == "classes" else (_CLASSES, size)
    seconds, data = _timed(functools.partial(synthetic_set, classes, images))
    yield "open the set", seconds
    yield "fingerprint", _timed(lambda: data.fingerprint)[0]
    plans: dict[str, Plan] = {}
    for name, overrides in _PROTOCOLS.items():
        seconds, plans[name] = _timed(functools.partial(_plan, name, "kd", data, *overrides))
        yield f"plan {name}", seconds
        yield f"tasks of {name}", _timed(functools.partial(plans[name].protocol.tasks, data, 0), 2)[0]
    fewshot: Any = plans["fewshot-5way1shot"].protocol
    yield "episodes", _timed(functools.partial(fewshot.episodes, data, 0), 2)[0]
    yield "episodes that share no image", _timed(functools.partial(fewshot.disjoint_episodes, data, 0))[0]
    orders = {
        "uniform": functools.partial(batches, data.labels, 64, 0),
        "balanced": functools.partial(batches, data.labels, 64, 0, classes_per_batch=8),
        "balanced subset": functools.partial(balanced_batches, data.labels, 64, 0),
    }
    for name, begin in orders.items():
        yield f"20 batches, {name}", _timed(functools.partial(_draw, begin, 20), 2)[0]
    _, task = plans["distill-overlap50"].protocol.tasks(data, 0)
    for method in ("kd", "refilled", "crd"):
        yield f"step of {method}", _step_seconds(_plan("distill-overlap50", method, data), task, 64)
    for name, plan in plans.items():
        yield f"run of one step, {name}", _timed(functools.partial(_run, plan, (0,)))[0]


def _draw(begin: Callable[[], Iterator[Any]], count: int) -> None:
    """Draw as many batches of a new order."""
    next(itertools.islice(begin(), count, count), None)


def _run(plan: Plan, seeds: Sequence[int]) -> None:
    """Train and evaluate by a protocol, as a run does, one seed after the other."""
    from benchmark.system.progress import Silent
    from benchmark.training import TeacherStore, Trainer, select_device
    from benchmark.training.output_cache import TeacherOutputCache

    with tempfile.TemporaryDirectory() as folder:
        store = TeacherStore(Path(folder), output_cache=TeacherOutputCache())
        for seed in seeds:
            trainer = Trainer(plan.spec(seed), store, select_device("cpu"), Silent())
            plan.protocol.run(plan.data, trainer, seed)


def _step_seconds(plan: Plan, task: Task, batch: int) -> float:
    """Return the seconds of a step of the training loop, without what the loop does before its first step."""
    import dataclasses

    import torch

    from benchmark.methods import LabelSpaces
    from benchmark.spec import Training
    from benchmark.system.progress import Silent
    from benchmark.training import TeacherStore, select_device
    from benchmark.training.factory import Factory
    from benchmark.training.frozen_teacher import FrozenTeacher
    from benchmark.training.loop import fit

    spec, data, device = plan.spec(0), plan.data, select_device("cpu")
    factory = Factory(spec, TeacherStore(Path(os.devnull)), device, Silent())
    student, teacher = (factory.network("conv4-16", task, seed) for seed in (0, 1))
    method = factory.run_method(LabelSpaces(task.classes, task.classes), student, teacher, data, 0)
    norm = factory.normalisation(data, task.train)
    labels = torch.from_numpy(task.labels(task.train))
    method.prepare(student, labels, torch.randn(len(labels), teacher.backbone.dim))
    teacher.eval().requires_grad_(False)
    frozen = FrozenTeacher(teacher, norm, norm, device)

    def train(steps: int) -> None:
        training = dataclasses.replace(Training(), steps=steps, batch_size=batch, lr=1e-3)
        fit(
            student, method, task, training, norm,
            teacher=frozen, seed=0, device=device, progress=Silent(), title="",
            stages=[dataclasses.replace(method.stages()[0], share=1.0)],
        )  # fmt: skip

    train(1)
    start = _timed(functools.partial(train, 1), 2)[0]
    steps, rounds = (_STEPS, 2) if start < _SLOW else (1, 1)
    return max(1e-9, _timed(functools.partial(train, 1 + steps), rounds)[0] - start) / steps


def _step_by_batch(job: Job, size: int) -> Iterator[tuple[str, float]]:
    data = synthetic_set(_CLASSES, 4_000)
    plan = _plan("distill-overlap50", job.subject, data, "protocol.images_per_class=0")
    yield f"step of {job.subject}", _step_seconds(plan, plan.protocol.tasks(data, 0)[1], size)


def _students(job: Job, size: int) -> Iterator[tuple[str, float]]:
    """Measure students that train together."""
    import torch

    from benchmark.backbones.network import Outputs, build_network
    from benchmark.methods import METHODS, LabelSpaces, Shapes
    from benchmark.spec import Training
    from benchmark.system.progress import Silent
    from benchmark.training import select_device
    from benchmark.training.parallel_loop import fit_parallel

    ways, images = 5, 40
    entry = METHODS.get("kd").entry
    space = LabelSpaces(tuple(range(ways)), tuple(range(ways)))
    students = [build_network("conv4-16", channels=1, size=_SIDE, classes=ways, seed=t) for t in range(size)]
    methods = [entry(entry.Settings(), space, Shapes({}), Shapes({})) for _ in students]
    pixels, labels = torch.randn(size, images, 1, _SIDE, _SIDE), (torch.arange(images) % ways).expand(size, -1)
    outputs = Outputs({}, torch.randn(size, images, _EMBEDDING), torch.randn(size, images, ways))

    def train(steps: int) -> None:
        fit_parallel(
            students, methods, pixels, labels, outputs, Training(steps=steps, batch_size=25, lr=1e-3),
            seeds=range(size), device=select_device("cpu"), progress=Silent(), title="", group_size=size,
        )  # fmt: skip

    train(1)
    start = _timed(functools.partial(train, 1), 3)[0]
    seconds = _timed(functools.partial(train, 21), 3)[0] - start
    yield "step of students that train together", max(1e-9, seconds) / 20


def _seeds(job: Job, size: int) -> Iterator[tuple[str, float]]:
    """Measure runs of several seeds in one process, with its cache of the teacher's outputs."""
    data = synthetic_set(_CLASSES, 4_000)
    plan = _plan("distill-overlap50", "kd", data, "protocol.images_per_class=0")
    yield "runs of several seeds", _timed(functools.partial(_run, plan, range(size)))[0]
