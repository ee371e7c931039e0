"""The global random generators: a check fails if an entry draws from one of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from benchmark.checks.check import CheckFailed


@contextmanager
def global_generators_unchanged(*, allow_torch_draws: bool = False) -> Iterator[None]:
    """Raise ``CheckFailed`` if the code inside draws from or seeds a global generator.

    Args:
        allow_torch_draws: True for code that may draw from torch's generator, which training seeds.
    """
    python_state, numpy_state = random.getstate(), _numpy_state()
    torch_state, torch_seed = torch.get_rng_state(), torch.initial_seed()
    yield
    if random.getstate() != python_state:
        raise CheckFailed("it draws from Python's global generator; use a random.Random of its own")
    if _numpy_state() != numpy_state:
        raise CheckFailed("it draws from NumPy's global generator; use np.random.default_rng(seed)")
    if torch.initial_seed() != torch_seed:
        raise CheckFailed("it seeds torch's global generator; use a torch.Generator of its own")
    if not allow_torch_draws and not torch.equal(torch.get_rng_state(), torch_state):
        raise CheckFailed("it draws from torch's global generator; use a torch.Generator of its own")


def _numpy_state() -> tuple[bytes, object]:
    _, keys, *position = np.random.get_state()
    return np.asarray(keys).tobytes(), tuple(position)


def advance_global_generators() -> None:
    """Draw once from each global generator, so that code that depends on one gives other results."""
    random.random()
    np.random.random()
    torch.rand(1)
