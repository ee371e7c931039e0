"""The one training loop: a student, a method, maybe a teacher, so many steps."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmark.backbones.network import Network, Outputs
from benchmark.data.augmentation import ImageLoader, Normalisation
from benchmark.data.image_set import IntArray
from benchmark.data.sampling import balanced_batches, batches
from benchmark.data.task import Task
from benchmark.errors import InputError
from benchmark.hashing import derive_seed
from benchmark.methods import Batch, Method, Stage
from benchmark.spec import Training
from benchmark.system.interrupts import defer_signals, stop_requested
from benchmark.system.progress import Progress
from benchmark.training.checkpoints import Checkpoint, TrainingState
from benchmark.training.device import Device
from benchmark.training.frozen_teacher import FrozenTeacher

VERSION = 1
"""Rises when the same settings train other weights than before; part of every key."""

_REPORT_SECONDS = 0.5


class DivergedError(RuntimeError):
    """Training produced a loss that is not a finite number; the message names the stage, the step and the terms."""


@dataclass
class TrainingResult:
    """What training cost and how it went. ``history``: one row per report with stage, step and mean terms."""

    steps: int = 0
    images: int = 0
    seconds: float = 0.0
    history: list[dict[str, float | str]] = field(default_factory=list)

    def merged(self, other: TrainingResult) -> TrainingResult:
        """Both trainings as one; the history is the mean over images, row by row."""
        if not self.images:
            return other
        share = other.images / (self.images + other.images)
        history = [
            {k: v if isinstance(v, str) else (1 - share) * v + share * float(theirs[k]) for k, v in ours.items()}
            for ours, theirs in zip(self.history, other.history, strict=True)
        ]
        return TrainingResult(
            self.steps + other.steps, self.images + other.images, self.seconds + other.seconds, history
        )


def fit(
    student: Network,
    method: Method,
    task: Task,
    training: Training,
    normalisation: Normalisation,
    *,
    guide: FrozenTeacher | None,
    seed: int,
    device: Device,
    progress: Progress,
    title: str,
    stages: Sequence[Stage] | None = None,
    reset_heads: bool = True,
    rows: int = 20,
    checkpoint: Checkpoint | None = None,
) -> TrainingResult:
    """Train ``student`` in place by ``method`` on the training images of ``task``.

    Batches, crops and dropout follow from ``seed`` alone, so every method meets the same ones; the stages of a method
    share ``training.steps``. ``stages``: others than the method's own; ``reset_heads``: False keeps the head where a
    stage asks for a new one. ``guide``: the teacher, where there is one. Weights that are all 0 raise ``InputError``, a
    loss that is not finite ``DivergedError``.
    """
    now = guide.passes.now if guide else time.perf_counter
    started = now()
    labels = task.labels(task.train)
    images = ImageLoader(
        task.data, task.train, normalisation,
        padding=training.crop_padding, size=training.input_size, crop=training.crop, device=device.torch,
    )  # fmt: skip
    targets = torch.from_numpy(labels).to(device.torch)
    crops = torch.Generator().manual_seed(derive_seed(seed, "crops"))
    see = device.ready(student)
    fitted = TrainingResult()
    report_every = max(1, training.steps // rows)
    kept = checkpoint.load() if checkpoint else None
    with contextlib.ExitStack() as ending:
        ending.enter_context(device.seeded(derive_seed(seed, "dropout")))
        ending.enter_context(defer_signals())
        if kept is not None:
            fitted = TrainingResult(**kept.facts["fitted"])
            started -= fitted.seconds
            progress.say(f"{title}: goes on from step {fitted.steps} of {training.steps}")
        progress.begin(title, training.steps)
        ending.callback(progress.end)
        order = batches(
            labels, training.batch_size, derive_seed(seed, "batches"), classes_per_batch=training.balanced_classes
        )
        shares = share_steps(method.stages() if stages is None else stages, training.steps)
        for number, (stage, steps) in enumerate(shares):
            if stage.balanced:
                order = balanced_batches(labels, training.batch_size, derive_seed(seed, "batches", stage.name))
            if kept is not None and number < kept.facts["stage"]:
                _skip(order, steps)
                continue
            if stage.reset_head and reset_heads:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(derive_seed(seed, "head", stage.name))
                    student.reset_head()
            optimiser, scheduler = build_optimiser(student, method, stage, steps, training)
            scaler = device.scaler()
            course = TrainingState(student, method, optimiser, scheduler, scaler, crops, device)
            sums: dict[str, Tensor] = {}
            since = first = 0
            if kept is not None:
                sums = course.restore(kept)
                since, first = kept.facts["since"], kept.facts["step"]
                _skip(order, first)
                kept = None
            last = time.perf_counter()
            student.train()
            if method.needs.trains != "all":
                student.backbone.eval()  # a frozen network's statistics are frozen too
            for step in range(first, steps):
                drawn = next(order)
                index = torch.from_numpy(drawn).to(device.torch)
                seen = images.sample_crops(len(drawn), crops)
                pixels = images.crop(index, seen)
                with device.autocast():
                    outputs: Outputs = see(pixels)
                taught: Outputs | None = None
                if guide and stage.teacher:
                    taught = guide(task.train[drawn], seen, pixels, stages=bool(method.needs.taps))
                named = (stage.name, step / steps) if stage.continues is None else (stage.continues, 1.0)
                batch = Batch(targets[index], index, *named)
                terms = method.loss(batch, outputs.float(), taught)
                if not terms:
                    raise InputError(f"stage {stage.name!r} has nothing to minimise: all weights of its terms are 0")
                loss = torch.stack(list(terms.values())).sum()
                optimiser.zero_grad(set_to_none=True)
                scaler.scale(loss).backward()
                scaler.step(optimiser)
                scaler.update()
                scheduler.step()
                for name, term in terms.items():
                    sums[name] = sums.get(name, torch.zeros((), device=device.torch)) + term.detach()
                since += 1
                fitted.steps += 1
                fitted.images += len(index)
                if fitted.steps % report_every == 0 or step + 1 == steps:
                    fitted.history.append(_row(stage, fitted.steps, sums, since))
                    sums, since = {}, 0
                if checkpoint and (stop_requested() or checkpoint.due() or step + 1 == steps):
                    fitted.seconds = now() - started
                    at = {"stage": number, "step": step + 1, "since": since, "fitted": dataclasses.asdict(fitted)}
                    checkpoint.save(course.state(sums, at))
                if time.perf_counter() - last > _REPORT_SECONDS or step + 1 == steps:
                    last = time.perf_counter()
                    rate = fitted.steps / (now() - started)
                    shown = fitted.history[-1] if fitted.history else {}
                    facts = " ".join(f"{k} {v:.3g}" for k, v in shown.items() if isinstance(v, float) and k != "step")
                    progress.advance(fitted.steps, f"{stage.name} {facts} {rate:.0f} steps/s")
                if stop_requested():
                    raise KeyboardInterrupt
    student.eval()
    fitted.seconds = now() - started
    return fitted


def _skip(order: Iterator[IntArray], steps: int) -> None:
    """Draw so many batches for nothing."""
    next(itertools.islice(order, steps, steps), None)


def share_steps(stages: Sequence[Stage], steps: int) -> list[tuple[Stage, int]]:
    """The stages that get steps, with how many; ``ValueError`` where their shares do not sum to 1."""
    total = sum(stage.share for stage in stages)
    if not math.isclose(total, 1.0, abs_tol=1e-6):
        raise ValueError(f"the shares of a method's stages sum to {total}, not to 1")
    edges = [0]
    share = 0.0
    for stage in stages:
        share += stage.share
        edges.append(round(share * steps))
    return [(stage, end - start) for stage, start, end in zip(stages, edges, edges[1:], strict=False) if end > start]


def build_optimiser(
    student: Network, method: Method, stage: Stage, steps: int, training: Training
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """SGD over the student and the method's connector, and the stage's rate: linear warm-up, then as scheduled."""
    learned = [parameter for parameter in student.parameters() if parameter.requires_grad]
    if method.connector is not None:
        learned += list(method.connector.parameters())
    optimiser = torch.optim.SGD(
        learned,
        lr=training.lr * stage.lr,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        nesterov=training.nesterov and training.momentum > 0,
    )
    warm = round(training.warmup * steps)
    drops = [round(share * steps) for share in training.decays()] if stage.final_lr is None else []
    last = stage.final_lr or 0.0

    def rate(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        if drops:
            return training.decay ** sum(step >= drop for drop in drops)
        done = (step - warm) / max(1, steps - warm)
        return last + (1 - last) * 0.5 * (1 + math.cos(math.pi * done))

    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, rate)


def _row(stage: Stage, step: int, sums: dict[str, Tensor], since: int) -> dict[str, float | str]:
    means = {name: float(value) / since for name, value in sums.items()}
    bad = [name for name, value in means.items() if not math.isfinite(value)]
    if bad:
        raise DivergedError(
            f"stage {stage.name!r}, step {step}: term {', '.join(map(repr, bad))} is not finite; lower training.lr"
        )
    return {"stage": stage.name, "step": float(step), **means}
