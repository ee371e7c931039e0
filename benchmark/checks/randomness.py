"""The generators that belong to nobody: what draws from them changes what others draw."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from benchmark.checks.check import Broken


@contextmanager
def untouched(*, torch_too: bool = True) -> Iterator[None]:
    """Raise ``Broken`` where what is done within draws from a global generator, or seeds one.

    torch_too: False for what may draw from torch's, which training seeds.
    """
    before = random.getstate(), _numpy_state(), torch.get_rng_state(), torch.initial_seed()
    yield
    if random.getstate() != before[0]:
        raise Broken("it draws from Python's global generator; take a random.Random of its own")
    if _numpy_state() != before[1]:
        raise Broken("it draws from NumPy's global generator; take np.random.default_rng(seed)")
    if torch.initial_seed() != before[3]:
        raise Broken("it seeds torch's global generator; take a torch.Generator of its own")
    if torch_too and not torch.equal(torch.get_rng_state(), before[2]):
        raise Broken("it draws from torch's global generator; take a torch.Generator of its own")


def _numpy_state() -> tuple[bytes, object]:
    _, keys, *rest = np.random.get_state()
    return np.asarray(keys).tobytes(), tuple(rest)


def disturb() -> None:
    """Leave all of them elsewhere than they were."""
    random.random()
    np.random.random()
    torch.rand(1)
