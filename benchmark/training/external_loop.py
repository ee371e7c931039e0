"""Training by the loop of another library, on the teacher's experience and the student's."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from benchmark.backbones.network import Network
from benchmark.data.augmentation import ImageLoader, Normalisation
from benchmark.data.task import Task
from benchmark.errors import InputError
from benchmark.hashing import derive_seed
from benchmark.methods.external_loop import ExperienceMethod, Experiences
from benchmark.methods.requirements import Rebalance
from benchmark.spec import Training
from benchmark.system.interrupts import stop_requested
from benchmark.system.progress import Progress
from benchmark.training.device import Device
from benchmark.training.optimisation import build_optimiser, share_steps
from benchmark.training.term_log import TermLog, TrainingResult


def check_external(training: Training, device: Device, rebalance: Rebalance = "none") -> None:
    """Raise ``InputError`` for settings that Avalanche's loop does not support."""
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
    """Train ``student`` in place by ``method``, on the classes of ``teacher_task``, then on the classes ``task`` adds.

    Experience 0 holds the images of ``task`` from the old classes; if there are none, the teacher's training images.
    Steps, optimiser, rate and crops are those of ``fit``. Everything random depends on ``seed`` alone. There are no
    checkpoints: an interrupted training starts again.

    Args:
        student: Network on the device, with the teacher's weights.
        method: Method with a loop of its own.
        task: Task of the student; the teacher's classes come first.
        teacher_task: Task of the teacher.
        training: Steps, batch size, optimiser and crops.
        normalisation: Input statistics of the student.
        rebalance: How old and new classes are balanced after training.
        seed: Seed of batches and crops.
        device: Device and precision.
        progress: Receives title, loss and rate.
        title: Name of the training.
        rows: Number of history rows.

    Raises:
        InputError: If Avalanche's loop does not support a setting.
        DivergedError: If the loss is not finite.
    """
    log = TermLog(progress, title, training.steps, rows=rows)
    check_external(training, device, rebalance)
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
    crop_generator = torch.Generator().manual_seed(derive_seed(seed, "crops"))
    ((stage, steps),) = share_steps(method.stages(), training.steps)
    optimiser, scheduler = build_optimiser(student, method, stage, steps, training)

    def end_step(loss: Tensor, image_count: int) -> bool:
        scheduler.step()
        last = log.result.steps + 1 == steps
        log.add({"loss": loss.detach().sum()})
        log.end_step(stage.name, images=image_count, last=last)
        log.report(last=last)
        if stop_requested():
            raise KeyboardInterrupt
        return last

    with device.seeded(derive_seed(seed, "batches")), log.shown():
        method.train(
            student,
            Experiences(
                labels=torch.from_numpy(task.labels(used)), old=torch.arange(len(old)),
                new=torch.arange(len(old), len(used)), old_classes=old_classes,
                plain=lambda positions: images.plain(positions.to(device.torch)),
                augmented=lambda positions: images.augmented(positions.to(device.torch), crop_generator),
                device=device.torch, forward=device.autocast, optimiser=optimiser, steps=steps,
                batch_size=training.batch_size, ended=end_step,
            ),
        )  # fmt: skip
    student.eval()
    return log.end(student)
