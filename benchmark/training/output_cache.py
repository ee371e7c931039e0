"""Outputs of teachers for whole batches, kept in memory from one run of a process to the next."""

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
from benchmark.training.cost_clock import CostClock
from benchmark.training.device import Device


class _Entry(NamedTuple):
    tensors: tuple[Tensor, ...]
    seconds: float

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors)


class TeacherOutputCache:
    """Cache of teacher outputs for runs that use the same batches: all methods of a protocol, data set and seed.

    A batch is looked up as a whole, so cached values equal recomputed values bit for bit. On GPUs nothing is cached.

    Attributes:
        clock: Clock of the costs of runs that use the cache; the cache adds the seconds it saves.
    """

    def __init__(self, max_bytes: int = 1 << 30) -> None:
        """Start empty.

        Args:
            max_bytes: Size from which the entries that were unused for the longest time are removed; 0 caches nothing.
        """
        self.clock = CostClock()
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0

    def get(
        self, device: Device, what: Any, arrays: tuple[Any, ...], compute: Callable[[], tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        """Return the result of ``compute``, from the cache if the other arguments were used before.

        Args:
            device: Device and precision.
            what: JSON value that identifies the network, its input and the kind of output.
            arrays: Arrays or CPU tensors that identify the batch.
            compute: Computes the tensors.

        Returns:
            Tensors that the caller may change.
        """
        if not self._max_bytes or device.torch.type != "cpu":
            return compute()
        conditions = [device.precision, device.compiled, torch.get_num_threads()]
        digest = hashlib.sha256(content_key([what, conditions]).encode())
        for array in arrays:
            values = np.ascontiguousarray(array)
            digest.update(f"{values.dtype}{values.shape}".encode())
            digest.update(values.data)
        key = digest.hexdigest()
        if key in self._entries:
            self._entries.move_to_end(key)
            self.clock.seconds_saved += self._entries[key].seconds
        else:
            started = time.perf_counter()
            tensors = tuple(tensor.clone() for tensor in compute())
            self._store(key, _Entry(tensors, time.perf_counter() - started))
        return tuple(tensor.clone() for tensor in self._entries[key].tensors)

    def _store(self, key: str, entry: _Entry) -> None:
        self._entries[key] = entry
        self._bytes += entry.bytes
        while self._bytes > self._max_bytes and len(self._entries) > 1:
            self._bytes -= self._entries.popitem(last=False)[1].bytes
