"""Training on episodes of base classes, and answers to episodes of novel ones."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmark.backbones.network import Network
from benchmark.data.augmentation import ImageLoader, Normalisation
from benchmark.data.episodes import Episodes, sample_episodes
from benchmark.data.image_set import ImageSet, IntArray
from benchmark.data.task import Task
from benchmark.errors import InputError
from benchmark.hashing import derive_seed
from benchmark.methods.episodic import Episode, EpisodicMethod
from benchmark.spec import Training
from benchmark.system.interrupts import defer_signals, stop_requested
from benchmark.system.progress import Progress
from benchmark.training.checkpoints import Checkpoint, TrainingState
from benchmark.training.device import Device
from benchmark.training.inference import embed
from benchmark.training.loop import DivergedError, TrainingResult, build_optimiser, share_steps


def training_queries(training: Training, way: int, shot: int, tasks: int) -> int:
    """Queries per class so that the episodes of a step hold no more images than a batch; none raises ``InputError``."""
    queries = training.batch_size // (tasks * way) - shot
    if queries < 1:
        raise InputError(
            f"training.batch_size = {training.batch_size} leaves no query in {tasks} episodes of {way} ways and {shot} "
            f"shots a step; set it to {tasks * way * (shot + 1)} at the least"
        )
    return queries


def fit_episodes(
    student: Network,
    method: EpisodicMethod,
    task: Task,
    training: Training,
    normalisation: Normalisation,
    *,
    way: int,
    shot: int,
    seed: int,
    device: Device,
    progress: Progress,
    title: str,
    rows: int = 20,
    checkpoint: Checkpoint | None = None,
) -> TrainingResult:
    """Train ``student`` in place by ``method`` on episodes of the training images of ``task``.

    Steps, optimiser, rate and crops are those of ``fit``; episodes, crops and dropout follow from ``seed`` alone. An
    image counts as often as it goes through the student. A loss that is not finite raises ``DivergedError``.
    ``checkpoint`` as in ``fit``.
    """
    started = time.perf_counter()
    queries = training_queries(training, way, shot, method.tasks)
    drawn = sample_episodes(
        task.data, task.classes, way=way, shot=shot, query=queries, episodes=training.steps * method.tasks,
        seed=derive_seed(seed, "training episodes"), among=task.train,
    )  # fmt: skip
    images = ImageLoader(
        task.data, task.train, normalisation,
        padding=training.crop_padding, size=training.input_size, crop=training.crop, device=device.torch,
    )  # fmt: skip
    position = np.full(len(task.data.images), -1)
    position[task.train] = np.arange(len(task.train))
    crops = torch.Generator().manual_seed(derive_seed(seed, "crops"))
    fitted = TrainingResult()
    every = max(1, training.steps // rows)
    sums: dict[str, Tensor] = {}
    since = first = 0
    kept = checkpoint.load() if checkpoint else None
    with contextlib.ExitStack() as ending:
        ending.enter_context(device.seeded(derive_seed(seed, "dropout")))
        ending.enter_context(defer_signals())
        progress.begin(title, training.steps)
        ending.callback(progress.end)
        ((stage, steps),) = share_steps(method.stages(), training.steps)
        optimiser, scheduler = build_optimiser(student, method, stage, steps, training)
        scaler = device.scaler()
        course = TrainingState(student, method, optimiser, scheduler, scaler, crops, device)
        if kept is not None:
            sums, since, first = course.restore(kept), kept.facts["since"], kept.facts["step"]
            fitted = TrainingResult(**kept.facts["fitted"])
            started -= fitted.seconds
            progress.say(f"{title}: goes on from step {first} of {steps}")
        student.train()
        for step in range(first, steps):
            optimiser.zero_grad(set_to_none=True)
            for number in range(step * method.tasks, (step + 1) * method.tasks):
                both = [position[part[number].ravel()] for part in (drawn.support, drawn.query)]
                pixels = images.augmented(torch.from_numpy(np.concatenate(both)).to(device.torch), crops)
                with device.autocast():
                    terms = method.episode_loss(student, _episode(pixels, way, shot))
                # each episode by itself: the next one may move statistics that the gradient of this one reads
                scaler.scale(torch.stack(list(terms.values())).sum() / method.tasks).backward()
                for name, term in terms.items():
                    sums[name] = sums.get(name, torch.zeros((), device=device.torch)) + term.detach() / method.tasks
                fitted.images += method.passes(len(both[0]), len(both[1]))
            scaler.step(optimiser)
            scaler.update()
            scheduler.step()
            since += 1
            fitted.steps += 1
            reports = fitted.steps % every == 0 or step + 1 == steps
            if reports:
                means = {name: float(value) / since for name, value in sums.items()}
                if not all(map(math.isfinite, means.values())):
                    raise DivergedError(f"step {fitted.steps}: the loss is not finite; lower training.lr")
                fitted.history.append({"stage": stage.name, "step": float(fitted.steps), **means})
                sums, since = {}, 0
            if checkpoint and (stop_requested() or checkpoint.due() or step + 1 == steps):
                fitted.seconds = time.perf_counter() - started
                at = {"step": step + 1, "since": since, "fitted": dataclasses.asdict(fitted)}
                checkpoint.save(course.state(sums, at))
            if reports:
                facts = " ".join(f"{name} {value:.3g}" for name, value in means.items())
                progress.advance(fitted.steps, f"{facts} {fitted.steps / (time.perf_counter() - started):.0f} steps/s")
            if stop_requested():
                raise KeyboardInterrupt
    student.eval()
    fitted.seconds = time.perf_counter() - started
    return fitted


def count_correct_answers(
    student: Network,
    method: EpisodicMethod,
    data: ImageSet,
    episodes: Episodes,
    normalisation: Normalisation,
    device: Device,
    progress: Progress,
    size: int = 0,
) -> IntArray:
    """How many queries of each episode the student answers rightly after ``method`` has seen its support set: E.

    size: pixels of a side of the student's input (0: the image's).
    """
    used = np.unique(np.concatenate([episodes.support.ravel(), episodes.query.ravel()]))
    look: Callable[[Tensor], Tensor]
    if method.head_alone:
        known = embed(student, data, used, normalisation, device, size=size)
        look, answer = partial(known.index_select, 0), method.answer_embedded
    else:
        images = ImageLoader(data, used, normalisation, padding=0, size=size, device=device.torch)
        look, answer = images.plain, method.answer
    counts = np.empty(len(episodes.classes), np.int64)
    progress.begin("answer episodes", len(counts))
    try:
        for number, (support, query) in enumerate(zip(episodes.support, episodes.query, strict=True)):
            rows = np.searchsorted(used, np.concatenate([support.ravel(), query.ravel()]))
            episode = _episode(look(torch.from_numpy(rows).to(device.torch)), *support.shape)
            with device.autocast():
                logits = answer(student, episode)
            counts[number] = int((logits.argmax(1) == episode.query_labels).sum())
            if number % 50 == 49:
                progress.advance(number + 1, "episodes")
    finally:
        progress.end()
    return counts


def _episode(images: Tensor, way: int, shot: int) -> Episode:
    """Pixels or embeddings of N * K support images, then of the queries, both class by class."""
    labels = torch.arange(way, device=images.device)
    queries = len(images) - way * shot
    return Episode(
        images[: way * shot], labels.repeat_interleave(shot),
        images[way * shot :], labels.repeat_interleave(queries // way),
    )  # fmt: skip
