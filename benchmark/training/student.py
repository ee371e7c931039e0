"""One student, started and trained by the method of the run."""

from __future__ import annotations

import torch

from benchmark.backbones.network import Network
from benchmark.data.augmentation import Normalisation
from benchmark.data.task import Task
from benchmark.hashing import derive_seed
from benchmark.methods import LabelSpaces, Method, Stage
from benchmark.methods.episodic import EpisodicMethod
from benchmark.methods.external_loop import ExperienceMethod
from benchmark.methods.requirements import Rebalance
from benchmark.spec import Training
from benchmark.training import loop
from benchmark.training.checkpoints import Checkpoint
from benchmark.training.episodic_loop import fit_episodes
from benchmark.training.external_loop import fit_experiences
from benchmark.training.factory import Factory
from benchmark.training.initialisation import align_head, start_from, with_balance
from benchmark.training.term_log import TrainingResult
from benchmark.training.trained_network import TrainedNetwork, required


def train_student(
    factory: Factory,
    task: Task,
    teacher: TrainedNetwork | None,
    rebalance: Rebalance = "none",
    episode: tuple[int, int] | None = None,
) -> TrainedNetwork:
    """Train a student of ``task``; everything random depends on the seed of the run.

    A student that starts from the teacher uses the teacher's input statistics.

    Args:
        factory: Settings of the run.
        task: Task of the student.
        teacher: Teacher, whose classes are the old ones; None if the run does not read it.
        rebalance: How old and new classes are balanced.
        episode: Ways and shots of the episodes of the evaluation, for methods that learn from episodes.
    """
    spec = factory.spec
    network = factory.network(spec.student.backbone, task, derive_seed(spec.seed, "student"))
    labels = LabelSpaces(task.classes, teacher.classes if teacher else ())
    method = factory.run_method(labels, network, teacher.network if teacher else None, task.data, spec.seed)
    if isinstance(method, EpisodicMethod) and episode is not None:
        return _train_episodic(factory, network, method, task, *episode)
    needs = method.needs
    normalisation = factory.normalisation(task.data, task.train)
    start = method.starts(spec.student.start)
    if start == "teacher":
        normalisation = required(teacher).normalisation
        start_from(required(teacher).network, network, labels)
    network.backbone.requires_grad_(needs.trains == "all")
    clock = factory.teachers.output_cache.clock
    started = clock.now()
    embeddings = None
    if method.reads_train_embeddings:
        embeddings = factory.train_embeddings(required(teacher), task, augmented=method.augments_train_embeddings)
    method.prepare(network, torch.from_numpy(task.labels(task.train)).to(factory.device.torch), embeddings)
    title, result = f"{spec.method} seed {spec.seed}", TrainingResult()
    if isinstance(method, ExperienceMethod):
        result = fit_experiences(
            network, method, task, required(teacher).task, spec.training, normalisation, rebalance,
            seed=spec.seed, device=factory.device, progress=factory.progress, title=title,
        )  # fmt: skip
    elif needs.trains != "nothing":
        result = fit_batches(
            factory, network, method, task, spec.training, normalisation, teacher if needs.teacher else None,
            spec.seed, title, factory.checkpoint(spec.key, "student"),
            stages=with_balance(method.stages()) if rebalance == "balanced" else None,
            reset_heads=start == "fresh" or needs.trains != "all",
        )  # fmt: skip
    if rebalance == "align":
        align_head(network, [c in required(teacher).task.classes for c in task.classes])
    network.eval()
    seconds = clock.now() - started
    network.requires_grad_(False)
    metadata = factory.student_metadata(network, start, result, seconds)
    metadata["accuracy"] = factory.accuracy(network, task, normalisation)
    return TrainedNetwork(network, task, normalisation, metadata)


def fit_batches(
    factory: Factory, network: Network, method: Method, task: Task, training: Training, normalisation: Normalisation,
    teacher: TrainedNetwork | None, seed: int, title: str, checkpoint: Checkpoint | None,
    stages: list[Stage] | None = None, reset_heads: bool = True, rate: str = "training.lr",
) -> TrainingResult:  # fmt: skip
    """Call ``loop.fit``, and save the teacher's embedding cache."""
    if method.connector is not None:
        method.connector.to(factory.device.torch).train()
    cache = None
    if teacher is not None and not method.needs.taps:
        guided = sum(stage.share for stage in (method.stages() if stages is None else stages) if stage.teacher)
        cache = factory.view_cache(teacher, task, guided * training.steps * training.batch_size)
    try:
        return loop.fit(
            network, method, task, training, normalisation,
            teacher=factory.frozen_teacher(teacher, task.data, normalisation, cache) if teacher else None,
            seed=seed, device=factory.device, progress=factory.progress, title=title,
            stages=stages, reset_heads=reset_heads, checkpoint=checkpoint, rate=rate,
        )  # fmt: skip
    finally:
        if cache is not None:
            cache.save()


def _train_episodic(
    factory: Factory, network: Network, method: EpisodicMethod, task: Task, way: int, shot: int
) -> TrainedNetwork:
    """Train a student of ``task`` on episodes of its classes."""
    spec = factory.spec
    network.replace_head(way, derive_seed(spec.seed, "head"))
    network.to(factory.device.torch)
    normalisation = factory.normalisation(task.data, task.train)
    result = fit_episodes(
        network, method, task, spec.training, normalisation, way=way, shot=shot, seed=spec.seed,
        device=factory.device, progress=factory.progress, title=f"{spec.method} seed {spec.seed}",
        checkpoint=factory.checkpoint(spec.key, "student"),
    )  # fmt: skip
    metadata = factory.student_metadata(network, "fresh", result, result.seconds)
    metadata["accuracy"] = None
    return TrainedNetwork(network, task, normalisation, metadata, episodic_method=method)
