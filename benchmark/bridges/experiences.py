"""Experiences for Avalanche: of a protocol, for its users, and of a run, for its strategies as methods."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.backbones.network import Backbone, Network
from benchmark.bridges.avalanche import load_avalanche, quiet
from benchmark.data import ImageSet, Task
from benchmark.data.imageset import IntArray
from benchmark.errors import InputError
from benchmark.methods.experiences import Experiences
from benchmark.progress import Silent
from benchmark.spec import build_settings


class Pictures(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Images of a task as (C x H x W float32 on the scale 0..1, position of the class in the task)."""

    def __init__(self, task: Task, indices: IntArray) -> None:
        self._data: ImageSet = task.data
        self.indices = indices
        self.targets: list[int] = task.labels(indices).tolist()

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        pixels = torch.from_numpy(np.array(self._data.images[self.indices[number]]))
        return pixels.permute(2, 0, 1).float() / 255, self.targets[number]


def as_avalanche_benchmark(
    protocol: str, dataset: str = "glyphs", *, root: Path | None = None, **settings: Any
) -> Any:
    """An incremental protocol as an Avalanche benchmark of two experiences.

    ``train_stream[0]`` holds the images that our teacher is trained on, ``[1]`` all training images of the new classes;
    ``test_stream`` the images that methods are judged on, old and new. Images as of ``Pictures``; class ids are 0 to
    K - 1 in the protocol's order, old classes first, without task labels. Which exemplars are kept, and how many, is the
    strategy's affair: the protocol allows as many per old class as its name says. ``settings`` are the protocol's, such
    as ``split="val"``; ``root``: the data root. A protocol without old and new classes raises ``InputError``.
    """
    from benchmark.data.published import data_set, default_root, open_data_set
    from protocols import PROTOCOLS
    from protocols.incremental import Incremental

    match = PROTOCOLS.get(protocol)
    if not issubclass(match.entry, Incremental):
        raise InputError(f"{protocol} has no old and new classes; an incremental protocol has")
    given = {**match.entry.presets["quick"].get("protocol", {}), **settings}
    made = match.entry(protocol, build_settings(match.entry.Settings, given, "protocol"), match.fields)
    data = open_data_set(data_set(dataset), root or default_root(), Silent())
    made.check(data)
    first, both = made.tasks(data)
    new = both.train[both.labels(both.train) >= len(first.classes)]
    train = np.concatenate([first.train, new])
    return two_experiences(Pictures(both, train), Pictures(both, both.held_out), len(first.classes), len(both.classes))


def two_experiences(train: Any, test: Any, old: int, classes: int) -> Any:
    """An Avalanche benchmark of data sets with ``targets`` 0 to ``classes`` - 1, of which the first ``old`` come first.

    By its older generator: with the newer one, iCaRL does not run.
    """
    avalanche = load_avalanche()
    with quiet():
        return avalanche.benchmarks.nc_benchmark(
            train, test, n_experiences=2, task_labels=False, shuffle=False, fixed_class_order=list(range(classes)),
            per_exp_classes={0: old}, class_ids_from_zero_from_first_exp=True,
        )  # fmt: skip


def position_benchmark(experiences: Experiences) -> Any:
    """Experiences as a benchmark of positions in the place of images; its test stream, which has to be, is the same."""
    positions = torch.cat([experiences.old, experiences.new])
    labels = experiences.labels[positions]
    both: Any = torch.utils.data.TensorDataset(positions, labels)
    both.targets = labels.tolist()
    return two_experiences(both, both, experiences.old_classes, int(labels.max()) + 1)


class Eye:
    """Pixels of positions: as they are, or in random views once it ``augments``.

    The batch seen last is seen the same way again, by whatever network: a student and what a strategy keeps of it look
    at the same views. Copies that strategies make of their networks have one eye in common.
    """

    def __init__(self, experiences: Experiences) -> None:
        self.experiences = experiences
        self.augments = False
        self._last: tuple[Tensor, Tensor] | None = None

    def __call__(self, positions: Tensor) -> Tensor:
        if self._last is None or self._last[0] is not positions:
            see = self.experiences.augmented if self.augments else self.experiences.plain
            self._last = positions, see(positions)
        return self._last[1]

    def __deepcopy__(self, memo: dict[int, Any]) -> Eye:
        return self


class Seeing(nn.Module):
    """A network from positions to logits."""

    def __init__(self, network: Network, eye: Eye) -> None:
        super().__init__()
        self.network = network
        self.eye = eye

    def forward(self, positions: Tensor) -> Tensor:
        with self.eye.experiences.forward():
            logits: Tensor = self.network(self.eye(positions)).logits
        return logits.float()


class SeeingEmbedding(nn.Module):
    """A backbone from positions to embeddings."""

    def __init__(self, backbone: Backbone, eye: Eye) -> None:
        super().__init__()
        self.backbone = backbone
        self.eye = eye

    def forward(self, positions: Tensor) -> Tensor:
        with self.eye.experiences.forward():
            embedding: Tensor = self.backbone(self.eye(positions))[1]
        return embedding.float()


class Pace:
    """An Avalanche plugin that tells of every step, and stops after the last one."""

    def __init__(self, ended: Callable[[Tensor, int], bool]) -> None:
        self._ended = ended

    def after_training_iteration(self, strategy: Any, **_: Any) -> None:
        """The step is done."""
        if self._ended(strategy.loss, len(strategy.mb_y)):
            strategy.stop_training()


class Weight:
    """An Avalanche plugin that multiplies the strategy's loss."""

    def __init__(self, weight: float) -> None:
        self._weight = weight

    def before_backward(self, strategy: Any, **_: Any) -> None:
        """The loss is whole."""
        strategy.loss = self._weight * strategy.loss
