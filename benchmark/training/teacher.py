"""The teacher of a run: pretrained, stored, or trained by cross-entropy."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from benchmark.backbones.network import Network
from benchmark.backbones.pretrained import Pretrained
from benchmark.data.augmentation import Normalisation
from benchmark.data.image_hashes import image_hashes
from benchmark.data.task import Task
from benchmark.errors import InputError
from benchmark.hashing import content_key, derive_seed
from benchmark.methods import LabelSpaces
from benchmark.methods.ce import CrossEntropy
from benchmark.settings import to_config
from benchmark.spec import RunSpec, Training
from benchmark.training import loop
from benchmark.training.embedding_cache import EmbeddingCache
from benchmark.training.factory import Factory
from benchmark.training.finite import DivergedError, tensor_that_is_not_finite
from benchmark.training.student import fit_batches
from benchmark.training.trained_network import TrainedNetwork


def get_teacher(factory: Factory, task: Task, backbone: str | None = None) -> TrainedNetwork:
    """Load or train the teacher of ``task``.

    Args:
        factory: Settings and store of the run.
        task: Task of the teacher.
        backbone: Backbone, if it is not the teacher's: a network that students start from.
    """
    spec = factory.spec
    backbone = backbone or spec.teacher.backbone
    if spec.pretrained is not None and backbone == spec.pretrained.name:
        return _pretrained_teacher(factory, spec.pretrained, task)
    return _stored_teacher(factory, task, backbone)


def teacher_is_stored(factory: Factory, task: Task) -> bool:
    """Return whether the teacher of ``task`` needs no training: it is pretrained or stored."""
    recipe = _recipe(factory.spec, task, factory.spec.teacher.backbone)
    return factory.spec.pretrained is not None or factory.teachers.has(content_key(recipe))


def _stored_teacher(factory: Factory, task: Task, backbone: str) -> TrainedNetwork:
    seed = factory.spec.teacher.seed
    recipe = _recipe(factory.spec, task, backbone)
    key = content_key(recipe)
    network = factory.network(backbone, task, derive_seed(seed, "teacher"))
    normalisation = factory.normalisation(task.data, task.train)

    def train() -> dict[str, Any]:
        settings = CrossEntropy.Settings(factory.spec.teacher.loss)
        method = factory.method("ce", settings, LabelSpaces(task.classes, ()), network, None, task.data, seed)
        result = fit_batches(
            factory, network, method, task, _training(factory.spec), normalisation, None, seed, f"teacher {backbone}",
            factory.checkpoint(key, "teacher"), rate="teacher.lr",
        )  # fmt: skip
        return {
            "recipe": recipe,
            "classes": [task.data.classes[c] for c in task.classes],
            "input": {
                "data": task.data.fingerprint,
                "dataset": task.data.name,
                "images": _some_hashes(task),
                "size": factory.input_size(task.data),
                "channels": task.data.images.shape[3],
                **dataclasses.asdict(normalisation),
            },
            "accuracy": factory.accuracy(network, task, normalisation),
            "seconds": result.seconds,
            "history": result.history,
        }

    was_stored = factory.teachers.has(key)
    try:
        facts = factory.teachers.get(key, network, train)
    except DivergedError:
        if factory.checkpoints:
            factory.checkpoints.clear(key)  # of numbers that are not finite
        raise
    _check_weights(network, f"teacher {backbone} in {factory.teachers.root / key}", "remove that folder")
    if factory.checkpoints:
        factory.checkpoints.clear(key)
    network.eval().requires_grad_(False)
    origin = "stored" if was_stored else f"trained in {facts['seconds']:.0f} s"
    accuracy = facts["accuracy"]
    evaluation = "no image held out" if accuracy is None else f"held-out accuracy {100 * accuracy:.1f} %"
    name = f"teacher {backbone} ({network.parameter_count:,} parameters), {len(task.classes)} classes"
    factory.progress.say(f"{name}: {evaluation} ({origin})")
    metadata = {
        "backbone": backbone, "key": key, "seed": seed, "accuracy": accuracy, "parameters": network.parameter_count,
        "seconds": facts["seconds"],
    }  # fmt: skip
    return TrainedNetwork(network, task, normalisation, metadata)


def _some_hashes(task: Task, count: int = 1000) -> list[str]:
    """Return hashes of at most ``count`` images that the teacher is trained on, to find copies of them elsewhere."""
    images = task.train[np.linspace(0, len(task.train) - 1, min(count, len(task.train))).astype(int)]
    return [each.tobytes().hex() for each in image_hashes(task.data.images[np.unique(images)])]


def _pretrained_teacher(factory: Factory, pretrained: Pretrained, task: Task) -> TrainedNetwork:
    """Build a teacher with weights and classes of its own; it replaces a teacher trained on ``task``."""
    network = pretrained.network().to(factory.device.torch).eval().requires_grad_(False)
    _check_weights(network, f"teacher {pretrained.name} in {pretrained.weights}", "take other weights")
    channels = task.data.images.shape[3]
    normalisation = Normalisation((0.0,) * channels, (1.0,) * channels)
    identity = {"backbone": pretrained.name, "size": pretrained.size, **pretrained.config()}
    cache = EmbeddingCache(
        network, identity, normalisation, task.data, factory.device, factory.teachers.root / "views",
        factory.progress, factory.spec.training.input_size, factory.teachers.output_cache.clock,
    )  # fmt: skip
    classes = network.head.out_features
    factory.progress.say(
        f"teacher {pretrained.name} ({network.parameter_count:,} parameters), pretrained for {classes} classes of "
        f"its own, input {pretrained.size} x {pretrained.size}: no accuracy on these"
    )
    metadata = {
        "backbone": pretrained.name, "key": content_key(identity), "seed": None, "accuracy": None,
        "parameters": network.parameter_count, "seconds": 0.0, "pretrained": True, "labels": "disjoint",
        "classes": classes, "weights": pretrained.weights, "weights_sha256": pretrained.sha256,
        "size": pretrained.size,
    }  # fmt: skip
    return TrainedNetwork(network, task, normalisation, metadata, cache)


def _check_weights(network: Network, name: str, remedy: str) -> None:
    tensor = tensor_that_is_not_finite(network)
    if tensor:
        raise InputError(f"{name}: its weights are not finite, the first in {tensor}; {remedy}")


def _training(spec: RunSpec) -> Training:
    """Return the training settings of the teacher."""
    teacher, training = spec.teacher, spec.training
    return dataclasses.replace(
        training,
        steps=teacher.steps, batch_size=teacher.batch_size, lr=teacher.lr, weight_decay=teacher.weight_decay,
        milestones=training.milestones if teacher.milestones == "training" else teacher.milestones,
        decay=teacher.decay or training.decay, sampler="uniform",
    )  # fmt: skip


def _recipe(spec: RunSpec, task: Task, backbone: str) -> dict[str, Any]:
    """Return everything that determines a teacher; its hash is the teacher's key."""
    return {
        "backbone": backbone,
        "seed": spec.teacher.seed,
        "training": to_config(_training(spec)),
        "task": task.key,
        "version": loop.VERSION,
        **({} if spec.teacher.loss == "ce" else {"loss": spec.teacher.loss}),
    }
