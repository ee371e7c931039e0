"""The training loop on episodes of base classes, and the evaluation on episodes of novel classes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmark.backbones.network import Network
from benchmark.data.augmentation import ImageLoader, Normalisation, to_device
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
from benchmark.training.finite import check_outputs
from benchmark.training.inference import embed
from benchmark.training.optimisation import build_optimiser, share_steps
from benchmark.training.term_log import TermLog, TrainingResult


def training_queries(training: Training, way: int, shot: int, tasks: int) -> int:
    """Return the queries per class with which the episodes of a step hold at most a batch of images.

    Raises:
        InputError: If the support images alone fill the batch.
    """
    queries = training.batch_size // (tasks * way) - shot
    if queries < 1:
        raise InputError(
            f"training.batch_size = {training.batch_size} leaves no query in {tasks} episodes of {way} ways and {shot} "
            f"shots a step; set it to at least {tasks * way * (shot + 1)}"
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

    Steps, optimiser, rate, crops and checkpoints are those of ``fit``. Episodes, crops and dropout depend on ``seed``
    alone. An image counts as often as it goes through the student.

    Args:
        student: Network on the device, with ``way`` outputs.
        method: Method of the loss of an episode.
        task: Task whose training images the episodes are made of.
        training: Steps, batch size, optimiser and crops.
        normalisation: Input statistics of the student.
        way: Classes of an episode.
        shot: Support images per class.
        seed: Seed of episodes, crops and dropout.
        device: Device and precision.
        progress: Receives title, terms and rate.
        title: Name of the training.
        rows: Number of history rows.
        checkpoint: Place from which an interrupted training resumes, bit for bit.

    Raises:
        InputError: If the episodes of a step hold more images than a batch.
        DivergedError: If the loss is not finite.
    """
    log = TermLog(progress, title, training.steps, rows=rows)
    queries = training_queries(training, way, shot, method.tasks)
    episodes = sample_episodes(
        task.data, task.classes, way=way, shot=shot, query=queries, episodes=training.steps * method.tasks,
        seed=derive_seed(seed, "training episodes"), among=task.train,
    )  # fmt: skip
    images = ImageLoader(
        task.data, task.train, normalisation,
        padding=training.crop_padding, size=training.input_size, crop=training.crop, device=device.torch,
    )  # fmt: skip
    position = np.full(len(task.data.images), -1)
    position[task.train] = np.arange(len(task.train))
    crop_generator = torch.Generator().manual_seed(derive_seed(seed, "crops"))
    snapshot = checkpoint.load() if checkpoint else None
    with device.seeded(derive_seed(seed, "dropout")), defer_signals(), log.shown():
        ((stage, steps),) = share_steps(method.stages(), training.steps)
        optimiser, scheduler = build_optimiser(student, method, stage, steps, training)
        scaler = device.scaler()
        state = TrainingState(student, method, optimiser, scheduler, scaler, crop_generator, device, log)
        first = 0
        if snapshot is not None:
            state.restore(snapshot)
            first = snapshot.facts["step"]
        student.train()
        for step in range(first, steps):
            step_images = 0
            optimiser.zero_grad(set_to_none=True)
            for number in range(step * method.tasks, (step + 1) * method.tasks):
                support, query = (position[part[number].ravel()] for part in (episodes.support, episodes.query))
                index = to_device(torch.from_numpy(np.concatenate([support, query])), device.torch)
                pixels = images.augmented(index, crop_generator)
                with device.autocast():
                    terms = method.episode_loss(student, _episode(pixels, way, shot))
                # one backward pass per episode: the next episode may move statistics that this gradient reads
                scaler.scale(torch.stack(list(terms.values())).sum() / method.tasks).backward()
                log.add({name: term.detach() / method.tasks for name, term in terms.items()})
                step_images += method.passes(len(support), len(query))
            scaler.step(optimiser)
            scaler.update()
            scheduler.step()
            last = step + 1 == steps
            log.end_step(stage.name, images=step_images, last=last)
            if checkpoint and (stop_requested() or checkpoint.due() or last):
                checkpoint.save(state.snapshot(step=step + 1))
            log.report(last=last)
            if stop_requested():
                raise KeyboardInterrupt
    student.eval()
    return log.end(student)


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
    """Count the queries of each episode that the student classifies correctly after it has adapted.

    Args:
        student: Trained network in eval mode.
        method: Method that adapts the student to a support set.
        data: Images of the episodes.
        episodes: E episodes.
        normalisation: Input statistics of the student.
        device: Device and precision.
        progress: Receives the number of finished episodes.
        size: Side length of the student's input in pixels (0: the whole image).

    Returns:
        E counts.
    """
    used = np.unique(np.concatenate([episodes.support.ravel(), episodes.query.ravel()]))
    read: Callable[[Tensor], Tensor]
    if method.head_alone:
        embeddings = embed(student, data, used, normalisation, device, size=size)
        read, answer = partial(embeddings.index_select, 0), method.answer_embedded
    else:
        images = ImageLoader(data, used, normalisation, padding=0, size=size, device=device.torch)
        read, answer = images.plain, method.answer
    counts = np.empty(len(episodes.classes), np.int64)
    progress.begin("evaluate", len(counts), "episodes")
    try:
        for number, (support, query) in enumerate(zip(episodes.support, episodes.query, strict=True)):
            rows = np.searchsorted(used, np.concatenate([support.ravel(), query.ravel()]))
            episode = _episode(read(torch.from_numpy(rows).to(device.torch)), *support.shape)
            with device.autocast():
                logits = check_outputs(answer(student, episode), "the logits of the queries")
            counts[number] = int((logits.argmax(1) == episode.query_labels).sum())
            if number % 50 == 49:
                progress.advance(number + 1, "episodes")
    finally:
        progress.end()
    return counts


def _episode(images: Tensor, way: int, shot: int) -> Episode:
    """Build an episode from pixels or embeddings: the N * K support images, then the queries, sorted by class."""
    labels = torch.arange(way, device=images.device)
    queries = len(images) - way * shot
    return Episode(
        images[: way * shot], labels.repeat_interleave(shot),
        images[way * shot :], labels.repeat_interleave(queries // way),
    )  # fmt: skip
