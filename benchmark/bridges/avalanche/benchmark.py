"""Avalanche (Carta et al., JMLR 2023, arXiv 2302.01766), imported when used, and our protocols as its benchmarks."""

from __future__ import annotations

import contextlib
import functools
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.data import ImageSet, Task
from benchmark.data.image_set import IntArray
from benchmark.errors import InputError
from benchmark.settings import build_settings
from benchmark.system.optional_packages import load_extra
from benchmark.system.progress import Silent


@functools.cache
def load_avalanche() -> Any:
    """The package, without what it and its own packages warn of; ``InputError`` as of ``load_extra``.

    It puts an addition of its own in the place of that of torch's data sets. Where it is imported here, that is undone:
    sums of torch's data sets stay what they are for everything else in the process.
    """
    dataset: Any = torch.utils.data.Dataset
    known, own = "avalanche" in sys.modules, dataset.__add__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = load_extra("avalanche", "bridges", "Avalanche's method, benchmark or plugin")
    if not known:
        dataset.__add__ = own
    return loaded


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within, what Avalanche warns of stays unsaid; what others do is said at the end."""
    with warnings.catch_warnings(record=True) as said:
        warnings.filterwarnings("ignore", module=r"avalanche\.")
        yield  # its deprecations set filters of their own
    own = Path(load_avalanche().__file__).parent
    for one in said:
        if own not in Path(one.filename).parents:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno, source=one.source)


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


def as_avalanche_benchmark(protocol: str, dataset: str = "glyphs", *, root: Path | None = None, **settings: Any) -> Any:
    """An incremental protocol as an Avalanche benchmark of two experiences.

    ``train_stream[0]`` holds the images that our teacher is trained on, ``[1]`` all training images of the new classes;
    ``test_stream`` the images that methods are judged on, old and new. Images as of ``Pictures``; class ids are 0 to
    K - 1 in the protocol's order, old classes first, without task labels. Which exemplars are kept, and how many, is
    the strategy's affair: the protocol allows as many per old class as its name says. ``settings`` are the protocol's,
    such as ``split="val"``; ``root``: the data root. A protocol without old and new classes raises ``InputError``.
    """
    from benchmark.data.published import data_set, default_data_root, open_data_set
    from protocols import PROTOCOLS
    from protocols.incremental import Incremental

    match = PROTOCOLS.get(protocol)
    if not issubclass(match.entry, Incremental):
        raise InputError(f"{protocol} has no old and new classes; an incremental protocol has")
    given = {**match.entry.presets["quick"].get("protocol", {}), **settings}
    made = match.entry(protocol, build_settings(match.entry.Settings, given, "protocol"), match.fields)
    data = open_data_set(data_set(dataset), root or default_data_root(), Silent())
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
