"""The training loop of one student that learns from batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch

from benchmark.backbones.network import Network, Outputs
from benchmark.data.augmentation import ImageLoader, Normalisation, to_device
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
from benchmark.training.cost_clock import CostClock
from benchmark.training.device import Device
from benchmark.training.finite import DivergedError, check_outputs
from benchmark.training.frozen_teacher import FrozenTeacher
from benchmark.training.initialisation import draw_head
from benchmark.training.optimisation import build_optimiser, share_steps
from benchmark.training.term_log import TermLog, TrainingResult

VERSION = 3
"""Rises when the same settings train other weights than before; part of every key."""


def fit(
    student: Network,
    method: Method,
    task: Task,
    training: Training,
    normalisation: Normalisation,
    *,
    teacher: FrozenTeacher | None,
    seed: int,
    device: Device,
    progress: Progress,
    title: str,
    stages: Sequence[Stage] | None = None,
    reset_heads: bool = True,
    rows: int = 20,
    checkpoint: Checkpoint | None = None,
    rate: str = "training.lr",
) -> TrainingResult:
    """Train ``student`` in place by ``method`` on the training images of ``task``.

    Batches, crops and dropout depend on ``seed`` alone, so they are the same for every method. The stages of a method
    share ``training.steps``.

    Args:
        student: Network on the device.
        method: Method of the loss; ``prepare`` has been called.
        task: Task whose training images are used.
        training: Steps, batches, optimiser and crops.
        normalisation: Input statistics of the student.
        teacher: Frozen teacher, if the method has one.
        seed: Seed of batches, crops, dropout and new heads.
        device: Device and precision.
        progress: Receives title, terms and rate.
        title: Name of the training.
        stages: Stages that replace the method's own.
        reset_heads: If False, a stage that asks for a new head keeps the old one.
        rows: Number of history rows.
        checkpoint: Place from which an interrupted training resumes, bit for bit.
        rate: Setting of the learning rate, for the message of a training that diverges.

    Raises:
        InputError: If the weights of all terms are 0.
        DivergedError: If a term, a weight or an output of the teacher is not finite.
    """
    clock = teacher.clock if teacher else CostClock()
    log = TermLog(progress, title, training.steps, rows=rows, clock=clock, rate=rate)
    labels = task.labels(task.train)
    images = ImageLoader(
        task.data, task.train, normalisation,
        padding=training.crop_padding, size=training.input_size, crop=training.crop, device=device.torch,
    )  # fmt: skip
    targets = torch.from_numpy(labels).to(device.torch)
    crop_generator = torch.Generator().manual_seed(derive_seed(seed, "crops"))
    forward = device.ready(student)
    snapshot = checkpoint.load() if checkpoint else None
    with device.seeded(derive_seed(seed, "dropout")), defer_signals(), log.shown():
        order = batches(
            labels, training.batch_size, derive_seed(seed, "batches"), classes_per_batch=training.balanced_classes
        )
        shares = share_steps(method.stages() if stages is None else stages, training.steps)
        for number, (stage, steps) in enumerate(shares):
            if stage.balanced:
                order = balanced_batches(labels, training.batch_size, derive_seed(seed, "batches", stage.name))
            if snapshot is not None and number < snapshot.facts["stage"]:
                _skip(order, steps)
                continue
            if stage.reset_head and reset_heads:
                draw_head(student, seed, stage)
            optimiser, scheduler = build_optimiser(student, method, stage, steps, training)
            scaler = device.scaler()
            state = TrainingState(student, method, optimiser, scheduler, scaler, crop_generator, device, log)
            first = 0
            if snapshot is not None:
                state.restore(snapshot)
                first = snapshot.facts["step"]
                _skip(order, first)
                snapshot = None
            student.train()
            if method.needs.trains != "all":
                student.backbone.eval()  # a frozen backbone keeps its statistics
            for step in range(first, steps):
                positions = next(order)
                index = to_device(torch.from_numpy(positions), device.torch)
                crops = images.sample_crops(len(positions), crop_generator)
                pixels = images.crop(index, crops)
                with device.autocast():
                    outputs: Outputs = forward(pixels)
                teacher_outputs: Outputs | None = None
                if teacher and stage.teacher:
                    teacher_outputs = teacher(task.train[positions], crops, pixels, stages=bool(method.needs.taps))
                named = (stage.name, step / steps) if stage.continues is None else (stage.continues, 1.0)
                terms = method.loss(Batch(targets[index], index, *named), outputs.float(), teacher_outputs)
                if not terms:
                    raise InputError(f"stage {stage.name!r} has nothing to minimise: all weights of its terms are 0")
                loss = torch.stack(list(terms.values())).sum()
                optimiser.zero_grad(set_to_none=True)
                scaler.scale(loss).backward()
                scaler.step(optimiser)
                scaler.update()
                scheduler.step()
                last = step + 1 == steps
                log.add(terms)
                try:
                    log.end_step(stage.name, images=len(index), last=last)
                except DivergedError:
                    if teacher_outputs is not None:
                        check_outputs(teacher_outputs.embedding, f"{title}, step {step + 1}: the teacher's embeddings")
                    raise
                if checkpoint and (stop_requested() or checkpoint.due() or last):
                    checkpoint.save(state.snapshot(stage=number, step=step + 1))
                log.report(last=last)
                if stop_requested():
                    raise KeyboardInterrupt
    student.eval()
    return log.end(student)


def _skip(order: Iterator[IntArray], steps: int) -> None:
    """Draw and discard as many batches."""
    next(itertools.islice(order, steps, steps), None)
