"""What teachers made of batches, remembered by a process from one run to the next."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmark.hashing import content_key
from benchmark.training.device import Device


class _Pass(NamedTuple):
    tensors: tuple[Tensor, ...]
    seconds: float

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors)


class TeacherOutputCache:
    """A teacher's passes over batches, for runs that meet the same ones: all methods of a protocol, data set and seed.

    A batch is looked up whole, so that what is remembered is what would be computed, bit for bit. ``most``: bytes that
    are kept; the passes that were not asked for the longest are forgotten first. Nothing is kept of what a GPU makes.
    """

    def __init__(self, most: int = 1 << 30) -> None:
        self._most = most
        self._kept: OrderedDict[str, _Pass] = OrderedDict()
        self._bytes = 0
        self.seconds_saved = 0.0
        """Seconds that the remembered passes had taken when they were made."""

    def now(self) -> float:
        """A clock for costs: it counts a remembered pass as long as it took, so that no run's order makes it cheap."""
        return time.perf_counter() + self.seconds_saved

    def get(
        self, device: Device, what: Any, arrays: tuple[Any, ...], compute: Callable[[], tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        """What ``compute`` gives, or copies of what it gave for the same device, ``what`` and ``arrays`` before.

        what: a JSON value that says which network sees what, in which way; arrays: NumPy arrays or tensors on the CPU.
        """
        if not self._most or device.torch.type != "cpu":
            return compute()
        where = [device.precision, device.compiled, torch.get_num_threads()]
        digest = hashlib.sha256(content_key([what, where]).encode())
        for array in arrays:
            values = np.ascontiguousarray(array)
            digest.update(f"{values.dtype}{values.shape}".encode())
            digest.update(values.data)
        key = digest.hexdigest()
        if key in self._kept:
            self._kept.move_to_end(key)
            self.seconds_saved += self._kept[key].seconds
        else:
            started = time.perf_counter()
            made = tuple(tensor.clone() for tensor in compute())
            self._keep(key, _Pass(made, time.perf_counter() - started))
        return tuple(tensor.clone() for tensor in self._kept[key].tensors)

    def _keep(self, key: str, made: _Pass) -> None:
        self._kept[key] = made
        self._bytes += made.bytes
        while self._bytes > self._most and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].bytes
