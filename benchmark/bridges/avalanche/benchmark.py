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
    """Import Avalanche without the warnings of it and its dependencies.

    Avalanche replaces the addition of torch's data sets. If it is first imported here, the replacement is undone, so
    that sums of torch's data sets are unchanged in the rest of the process.

    Raises:
        InputError: Avalanche is not installed; the message has the command to install it.
    """
    dataset: Any = torch.utils.data.Dataset
    imported_before, addition = "avalanche" in sys.modules, dataset.__add__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = load_extra("avalanche", "bridges", "Avalanche's method, benchmark or plugin")
    if not imported_before:
        dataset.__add__ = addition
    return loaded


@contextlib.contextmanager
def suppress_warnings() -> Iterator[None]:
    """Drop Avalanche's warnings inside the context; warnings of other packages are issued at its end."""
    with warnings.catch_warnings(record=True) as recorded:
        warnings.filterwarnings("ignore", module=r"avalanche\.")
        yield  # its deprecations set filters of their own
    package = Path(load_avalanche().__file__).parent
    for warning in recorded:
        if package not in Path(warning.filename).parents:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno, source=warning.source
            )


class TaskImages(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Images of a task as pairs: pixels (C, H, W) float32 in [0, 1], and the position of the class in the task."""

    def __init__(self, task: Task, indices: IntArray) -> None:
        self._data: ImageSet = task.data
        self.indices = indices
        self.targets: list[int] = task.labels(indices).tolist()

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        pixels = torch.from_numpy(np.array(self._data.images[self.indices[number]]))
        return pixels.permute(2, 0, 1).float() / 255, self.targets[number]


def as_avalanche_benchmark(protocol: str, dataset: str = "glyphs", *, data: Path | None = None, **settings: Any) -> Any:
    """Return an incremental protocol as an Avalanche benchmark of two experiences.

    ``train_stream[0]`` holds the teacher's training images, ``train_stream[1]`` all training images of the new classes,
    and ``test_stream`` the evaluated images of old and new classes. Images are (C, H, W) float32 in [0, 1]; class ids
    are 0 to K - 1 in the protocol's order, old classes first, without task labels. The strategy chooses its exemplars;
    the protocol allows as many per old class as its name says.

    Args:
        protocol: Name of an incremental protocol.
        dataset: Name of the data set.
        data: Folder of data sets; None for the default.
        **settings: Settings of the protocol, such as ``split="val"``.

    Raises:
        InputError: The protocol has no old and new classes.
    """
    from benchmark.data.published import data_set, default_data_root, open_data_set
    from protocols import PROTOCOLS
    from protocols.incremental import Incremental

    resolved = PROTOCOLS.get(protocol)
    if not issubclass(resolved.entry, Incremental):
        raise InputError(f"{protocol} has no old and new classes; an incremental protocol has")
    values = {**resolved.entry.presets["quick"].get("protocol", {}), **settings}
    instance = resolved.entry(protocol, build_settings(resolved.entry.Settings, values, "protocol"), resolved.fields)
    images = open_data_set(data_set(dataset), data or default_data_root(), Silent())
    instance.check(images)
    first, both = instance.tasks(images)
    new = both.train[both.labels(both.train) >= len(first.classes)]
    train = np.concatenate([first.train, new])
    return two_experiences(
        TaskImages(both, train), TaskImages(both, both.held_out), len(first.classes), len(both.classes)
    )


def two_experiences(train: Any, test: Any, old: int, classes: int) -> Any:
    """Return an Avalanche benchmark of two experiences, made by the older generator: iCaRL does not run with the newer.

    Args:
        train: Training data set with ``targets`` in 0 to ``classes`` - 1.
        test: Test data set, likewise.
        old: Number of classes of the first experience: the first ones.
        classes: Number of all classes.
    """
    avalanche = load_avalanche()
    with suppress_warnings():
        return avalanche.benchmarks.nc_benchmark(
            train, test, n_experiences=2, task_labels=False, shuffle=False, fixed_class_order=list(range(classes)),
            per_exp_classes={0: old}, class_ids_from_zero_from_first_exp=True,
        )  # fmt: skip
