"""Training by another library's loop, on the teacher's experience and the student's."""

from __future__ import annotations

import contextlib
import math
import time

import numpy as np
import torch
from torch import Tensor

from benchmark.backbones.network import Network
from benchmark.data.augmentation import ImageLoader, Normalisation
from benchmark.data.task import Task
from benchmark.errors import InputError
from benchmark.hashing import derive_seed
from benchmark.methods.base import Rebalance
from benchmark.methods.external_loop import ExperienceMethod, Experiences
from benchmark.spec import Training
from benchmark.system.interrupts import stop_requested
from benchmark.system.progress import Progress
from benchmark.training.device import Device
from benchmark.training.loop import DivergedError, TrainingResult, build_optimiser, share_steps


def check_foreign(training: Training, device: Device, rebalance: Rebalance = "none") -> None:
    """Raise ``InputError`` for what Avalanche's loop does not do."""
    if training.sampler != "uniform":
        raise InputError(f"training.sampler = {training.sampler}: Avalanche draws its own batches; take uniform")
    if rebalance == "balanced":
        raise InputError("protocol.rebalance = balanced: Avalanche draws its own batches; take none or align")
    if device.precision == "float16":
        raise InputError("training.precision = float16: Avalanche does not scale losses for it; take float32")


def fit_experiences(
    student: Network,
    method: ExperienceMethod,
    task: Task,
    teacher_task: Task,
    training: Training,
    normalisation: Normalisation,
    rebalance: Rebalance = "none",
    *,
    seed: int,
    device: Device,
    progress: Progress,
    title: str,
    rows: int = 20,
) -> TrainingResult:
    """Train ``student`` in place by ``method``, on the classes of ``teacher_task``, then on those that ``task`` adds.

    Experience 0 holds what ``task`` has of the old classes, or the images that the teacher was trained on where that
    is nothing. Steps, optimiser, rate and crops are those of ``fit``; batches, crops and whatever else is drawn follow
    from ``seed`` alone. Signals are heeded at once: nothing is kept of a training that is broken off. What Avalanche's
    loop does not do raises ``InputError``, a loss that is not finite ``DivergedError``.
    """
    started = time.perf_counter()
    check_foreign(training, device, rebalance)
    old_classes = len(teacher_task.classes)
    is_old = task.labels(task.train) < old_classes
    old, new = task.train[is_old], task.train[~is_old]
    if not len(old):
        old = teacher_task.train
    used = np.concatenate([old, new])
    images = ImageLoader(
        task.data, used, normalisation,
        padding=training.crop_padding, size=training.input_size, crop=training.crop, device=device.torch,
    )  # fmt: skip
    crops = torch.Generator().manual_seed(derive_seed(seed, "crops"))
    ((stage, steps),) = share_steps(method.stages(), training.steps)
    optimiser, scheduler = build_optimiser(student, method, stage, steps, training)
    fitted, every = TrainingResult(), max(1, steps // rows)
    total, since = torch.zeros((), device=device.torch), 0

    def ended(loss: Tensor, count: int) -> bool:
        nonlocal since
        scheduler.step()
        total.add_(loss.detach().sum())
        since += 1
        fitted.steps += 1
        fitted.images += count
        if fitted.steps % every == 0 or fitted.steps == steps:
            mean = float(total) / since
            if not math.isfinite(mean):
                raise DivergedError(f"step {fitted.steps}: the loss is not finite; lower training.lr")
            fitted.history.append({"stage": stage.name, "step": float(fitted.steps), "loss": mean})
            progress.advance(
                fitted.steps, f"loss {mean:.3g} {fitted.steps / (time.perf_counter() - started):.0f} steps/s"
            )
            total.zero_()
            since = 0
        if stop_requested():
            raise KeyboardInterrupt
        return fitted.steps == steps

    def seen(positions: Tensor, augmented: bool) -> Tensor:
        positions = positions.to(device.torch)
        return images.augmented(positions, crops) if augmented else images.plain(positions)

    with contextlib.ExitStack() as ending:
        ending.enter_context(device.seeded(derive_seed(seed, "batches")))
        progress.begin(title, steps)
        ending.callback(progress.end)
        method.learn(
            student,
            Experiences(
                labels=torch.from_numpy(task.labels(used)), old=torch.arange(len(old)),
                new=torch.arange(len(old), len(used)), old_classes=old_classes,
                plain=lambda positions: seen(positions, False), augmented=lambda positions: seen(positions, True),
                device=device.torch, forward=device.autocast, optimiser=optimiser, steps=steps,
                batch_size=training.batch_size, ended=ended,
            ),
        )  # fmt: skip
    student.eval()
    fitted.seconds = time.perf_counter() - started
    return fitted
