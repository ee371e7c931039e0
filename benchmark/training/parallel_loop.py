"""Many students of one architecture trained at once: their tasks are small, their number is not.

A step of a small network on a handful of images costs more in calls than in arithmetic, so the students share the
calls of the networks, of the optimiser and of the sums; each has its own loss. On one thread a step of conv4-16 costs a
third on 5 images, three quarters on 25; from 50 on the arithmetic is all there is to it.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmark.backbones.grouped import GroupedNetwork
from benchmark.backbones.network import Network, Outputs
from benchmark.data.sampling import balanced_batches, batches
from benchmark.errors import InputError
from benchmark.hashing import derive_seed
from benchmark.methods import Batch, Method
from benchmark.spec import Training
from benchmark.system.progress import Progress
from benchmark.training.checkpoints import Checkpoint, State
from benchmark.training.device import Device
from benchmark.training.loop import DivergedError, TrainingResult, build_optimiser, share_steps

# how many students stand side by side: with more, a step of each costs the same; fewer where their images are many,
# because the maps of all are in memory
_STUDENTS, _IMAGES = 20, 250

_Means = dict[tuple[str, int, tuple[str, ...]], list[Tensor]]
"""Means of the terms, students x terms for each part, by stage, step and the terms' names."""


def fit_parallel(
    students: Sequence[Network],
    methods: Sequence[Method],
    images: Tensor,
    labels: Tensor,
    guides: Outputs | None,
    training: Training,
    *,
    seeds: Sequence[int],
    device: Device,
    progress: Progress,
    title: str,
    reset_heads: bool = True,
    at_once: int | None = None,
    rows: int = 20,
    checkpoint: Checkpoint | None = None,
) -> TrainingResult:
    """Train ``students[t]`` in place by ``methods[t]``, prepared before, on ``images[t]``, as ``fit`` by ``seeds[t]``.

    images: T x M x C x H x W float32, normalised, all their crops among them: nothing is augmented here; labels: T x M;
    guides: the teacher's embeddings T x M x D and logits T x M x classes of the same images, or None. ``reset_heads``:
    as in ``fit``. ``at_once``: how many students stand side by side; it changes results by rounding and,
    for students with dropout, by what that draws. ``checkpoint``: where students that are done are kept when that is
    due; from there training goes on, bit for bit as if never broken off.

    Steps and images are those of all students, the history is their mean. ``ValueError``: shapes that do not match,
    networks that cannot stand side by side, methods that differ, have a connector, read stages or weights of the
    student, miss the guides or do not train all of it. Losses that are empty or not finite raise as in ``fit``.
    """
    tasks = _Tasks(students, methods, images, labels, guides, seeds)
    tasks.check()
    started = time.perf_counter()
    size = at_once or max(1, min(_STUDENTS, _IMAGES // training.batch_size))
    total = training.steps * len(students)
    means: _Means = {}
    kept = checkpoint.load() if checkpoint else None
    with contextlib.ExitStack() as ending:
        ending.enter_context(device.seeded(derive_seed(seeds[0], "dropout")))
        first = 0
        if kept is not None:
            first = _restore(kept, students, means, device)
            started -= kept.facts["seconds"]
            progress.say(f"{title}: {first} of {len(students)} are trained, goes on from there")
        progress.begin(title, total)
        ending.callback(progress.end)
        for start in range(first, len(students), size):
            part = tasks.part(slice(start, start + size))
            for report in _train(part, training, device, reset_heads, max(1, training.steps // rows)):
                report.check(start)
                means.setdefault((report.stage, report.step, report.names), []).append(report.means)
                done = start * training.steps + len(part.students) * report.step
                rate = done / (time.perf_counter() - started)
                progress.advance(done, f"{report.stage} {report.facts()} {rate:.0f} steps/s")
            trained = start + len(part.students)
            if checkpoint and (checkpoint.due() or trained == len(students)):
                checkpoint.save(_state(students[:trained], means, device, time.perf_counter() - started))
    history: list[dict[str, float | str]] = [
        {"stage": stage, "step": float(step), **dict(zip(names, torch.cat(parts).mean(0).tolist(), strict=True))}
        for (stage, step, names), parts in means.items()
    ]
    return TrainingResult(total, total * training.batch_size, time.perf_counter() - started, history)


def _state(students: Sequence[Network], means: _Means, device: Device, seconds: float) -> State:
    """Students that are trained, the means of their terms by report, and where the generators are."""
    tensors = {f"{t}/{name}": value for t, own in enumerate(students) for name, value in own.state_dict().items()}
    tensors |= {f"means/{row}": torch.cat(parts) for row, parts in enumerate(means.values())}
    tensors |= {f"random/{name}": value for name, value in device.random_state().items()}
    return State(tensors, {"students": len(students), "reports": list(means), "seconds": seconds})


def _restore(state: State, students: Sequence[Network], means: _Means, device: Device) -> int:
    """Bring students, means and generators back to ``state``; how many students are trained."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in state.tensors.items():
        place, _, rest = name.partition("/")
        parts.setdefault(place, {})[rest] = value
    count: int = state.facts["students"]
    for t in range(count):
        students[t].load_state_dict(parts[str(t)])
        students[t].eval()
    for row, (stage, step, names) in enumerate(state.facts["reports"]):
        means[stage, step, tuple(names)] = [parts["means"][str(row)]]
    device.set_random_state(parts["random"])
    return count


def predict_parallel(students: Sequence[Network], images: Tensor, *, device: Device) -> Tensor:
    """Logits T x Q x classes, float32, of ``students[t]`` in eval mode on ``images[t]``: T x Q x C x H x W."""
    size = max(1, min(_STUDENTS, _IMAGES // images.shape[1]))
    logits = []
    for start in range(0, len(students), size):
        crowd = GroupedNetwork(students[start : start + size])
        crowd.network.eval()
        pieces = images[start : start + size].to(device.torch).split(_IMAGES, dim=1)
        crowd.check(pieces[0][:, :2])
        with torch.inference_mode(), device.autocast():
            outputs = [torch.stack([own.logits for own in crowd(piece)]) for piece in pieces]
        logits.append(torch.cat(outputs, dim=1))
    return torch.cat(logits)


@dataclass(frozen=True)
class _Tasks:
    """The students of some tasks and all that they learn from, as ``fit_parallel`` has it."""

    students: Sequence[Network]
    methods: Sequence[Method]
    images: Tensor
    labels: Tensor
    guides: Outputs | None
    seeds: Sequence[int]

    def part(self, chosen: slice) -> _Tasks:
        guides = self.guides and Outputs({}, self.guides.embedding[chosen], self.guides.logits[chosen])
        students, methods = self.students[chosen], self.methods[chosen]
        return _Tasks(students, methods, self.images[chosen], self.labels[chosen], guides, self.seeds[chosen])

    def check(self) -> None:
        shape = self.labels.shape
        tensors = [self.images, *([self.guides.embedding, self.guides.logits] if self.guides else [])]
        if self.images.ndim != 5 or any(x.shape[:2] != shape for x in tensors):
            raise ValueError(
                "expected labels T x M, images T x M x C x H x W, guides T x M x D and T x M x classes, got "
                + ", ".join(str(tuple(x.shape)) for x in (self.labels, *tensors))
            )
        if not 0 < len(self.students) == len(self.methods) == len(self.seeds) == shape[0]:
            raise ValueError(
                f"one student, method and seed per task: there are {len(self.students)}, {len(self.methods)} and "
                f"{len(self.seeds)} for {shape[0]} tasks"
            )
        method = self.methods[0]
        if any(type(m) is not type(method) or m.settings != method.settings for m in self.methods):
            raise ValueError("students trained at once have one method with the same settings")
        what, needs = type(method).__name__, method.needs
        if method.connector is not None or needs.taps or needs.trains != "all":
            raise ValueError(f"{what} has a connector, reads stages or does not train the whole student: use fit")
        if not all(parameter.requires_grad for student in self.students for parameter in student.parameters()):
            raise ValueError("a student has frozen parameters, which training at once would move: use fit")
        if needs.teacher and self.guides is None:
            raise ValueError(f"{what} learns from a teacher; pass its outputs as guides")


class _Report(NamedTuple):
    """Means since the last one: students x terms."""

    stage: str
    step: int
    names: tuple[str, ...]
    means: Tensor

    def check(self, first: int) -> None:
        finite = self.means.isfinite()
        if not finite.all():
            student = int(finite.all(1).logical_not().nonzero()[0])
            bad = ", ".join(repr(name) for name, fine in zip(self.names, finite[student], strict=True) if not fine)
            raise DivergedError(
                f"student {first + student}, stage {self.stage!r}, step {self.step}: term {bad} is not finite; "
                "lower training.lr"
            )

    def facts(self) -> str:
        return " ".join(f"{k} {v:.3g}" for k, v in zip(self.names, self.means.mean(0).tolist(), strict=True))


def _train(tasks: _Tasks, training: Training, device: Device, reset_heads: bool, every: int) -> Iterator[_Report]:
    """Train the students of ``tasks`` side by side; a report after every so many steps and after each stage."""
    crowd = GroupedNetwork(tasks.students)
    for student in tasks.students:
        student.zero_grad()
    images, labels = (x.to(device.torch) for x in (tasks.images, tasks.labels))
    guides = tasks.guides and [x.to(device.torch) for x in (tasks.guides.embedding, tasks.guides.logits)]
    crowd.check(images[:, :2])
    crowd.network.train()
    own_labels = list(zip(tasks.labels.cpu().numpy(), tasks.seeds, strict=True))
    orders = [
        batches(y, training.batch_size, derive_seed(seed, "batches"), classes_per_batch=training.balanced_classes)
        for y, seed in own_labels
    ]
    task = torch.arange(len(orders), device=device.torch)[:, None]
    done = 0
    for stage, steps in share_steps(tasks.methods[0].stages(), training.steps):
        if stage.balanced:
            orders = [
                balanced_batches(y, training.batch_size, derive_seed(seed, "batches", stage.name))
                for y, seed in own_labels
            ]
        if stage.reset_head and reset_heads:
            for student, seed in zip(tasks.students, tasks.seeds, strict=True):
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(derive_seed(seed, "head", stage.name))
                    student.reset_head()
            crowd.reload_heads()
        optimiser, scheduler = build_optimiser(crowd.network, tasks.methods[0], stage, steps, training)
        scaler = device.scaler()
        sums, since = torch.zeros((), device=device.torch), 0
        for step in range(steps):
            index = torch.from_numpy(np.stack([next(order) for order in orders])).to(device.torch)
            with device.autocast():
                outputs = crowd(images[task, index])
            taught: Iterable[Outputs | None] = itertools.repeat(None, len(orders))
            if guides:
                taught = (Outputs({}, *own) for own in zip(*(x[task, index] for x in guides), strict=True))
            terms = [
                method.loss(Batch(y, i, stage.name, step / steps), output, guide)
                for method, y, i, output, guide in zip(
                    tasks.methods, labels[task, index], index, outputs, taught, strict=True
                )
            ]
            if not terms[0]:
                raise InputError(f"stage {stage.name!r} has nothing to minimise: all weights of its terms are 0")
            values = torch.stack([value for own in terms for value in own.values()])
            optimiser.zero_grad(set_to_none=True)
            scaler.scale(values.sum()).backward()
            if step == 0 and any(p.grad is not None for student in tasks.students for p in student.parameters()):
                raise ValueError(f"{type(tasks.methods[0]).__name__} reads the weights of the student: use fit")
            scaler.step(optimiser)
            scaler.update()
            scheduler.step()
            sums = sums + values.detach().view(len(orders), -1)
            since += 1
            done += 1
            if done % every == 0 or step + 1 == steps:
                yield _Report(stage.name, done, tuple(terms[0]), (sums / since).cpu())
                sums, since = torch.zeros((), device=device.torch), 0
    crowd.copy_back()
    for student in tasks.students:
        student.eval()
