"""What a training needs to go on from where another attempt was broken off."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from benchmark.interrupts import held
from benchmark.spec import content_key
from benchmark.store import write_atomically
from benchmark.training.device import Device
from benchmark.training.progress import Progress

VERSION = 1
"""Rises when a checkpoint holds other things than before."""

SECONDS = 60.0
"""How often a training is kept, by default."""


@dataclass(frozen=True)
class State:
    """Tensors by name, whose memory layout comes back too, and JSON values."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


class Checkpoints:
    """A folder of trainings that were broken off: one folder for each run and each teacher, by key.

    Device, precision and torch are part of a folder's name: elsewhere a training starts anew, because the rest of it
    would not be what it was. ``every``: seconds between two checkpoints of a training.
    """

    def __init__(self, root: Path, device: Device, progress: Progress, every: float = SECONDS) -> None:
        self._root = root
        self._where = [device.torch.type, device.precision, torch.__version__, torch.backends.cpu.get_cpu_capability()]
        self._every = every
        self._progress = progress

    def part(self, key: str, name: str) -> Checkpoint:
        """Where one training of the run or teacher ``key`` is kept."""
        return Checkpoint(self._folder(key), name, self._every, self._progress)

    def clear(self, key: str) -> None:
        """Remove all trainings of ``key``: what they led to is kept elsewhere."""
        shutil.rmtree(self._folder(key), ignore_errors=True)

    def _folder(self, key: str) -> Path:
        return self._root / content_key([key, self._where, VERSION])[:16]


class Checkpoint:
    """The latest state of one training: ``NAME.json`` and, named by its hash there, ``NAME.HASH.safetensors``."""

    def __init__(self, folder: Path, name: str, every: float, progress: Progress) -> None:
        self._folder = folder
        self._name = name
        self._every = every
        self._progress = progress
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether the last one is old enough for another."""
        return time.monotonic() - self._last >= self._every

    def save(self, state: State) -> None:
        """Keep ``state`` in place of what was kept before; where that cannot be written, training goes on and says so.

        A signal to stop is heeded afterwards.
        """
        tensors = {name: tensor.detach().cpu() for name, tensor in state.tensors.items()}
        strides = {name: t.stride() for name, t in tensors.items() if not t.is_contiguous()}
        # clones, for tensors that share their memory are refused
        plain = {name: t.clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
        content = safetensors.torch.save(plain)
        digest = hashlib.sha256(content).hexdigest()
        index = {"version": VERSION, "tensors": digest, "strides": strides, "facts": state.facts}
        # the index is checked as well: a number of it that flips would not be noticed otherwise
        index["sha256"] = content_key(json.loads(json.dumps(index)))
        try:
            with held():
                self._folder.mkdir(parents=True, exist_ok=True)
                write_atomically(self._tensors(digest), content)
                write_atomically(self._index, json.dumps(index, allow_nan=False).encode())
                for path in self._folder.glob(f"{self._name}.*.safetensors"):
                    if path != self._tensors(digest):
                        path.unlink(missing_ok=True)
        except OSError as error:
            self._progress.say(
                f"no checkpoint can be kept in {self._folder} ({error.strerror or error}); should it be interrupted, "
                "this training starts anew"
            )
        self._last = time.monotonic()

    def load(self) -> State | None:
        """What is kept, or None; a damaged one is set aside as ``NAME.damaged``, which is said."""
        if not self._index.exists():
            return None
        try:
            index = json.loads(self._index.read_bytes())
            if index.pop("sha256") != content_key(index):
                raise ValueError("its checksum is not the recorded one")
            content = self._tensors(index["tensors"]).read_bytes()
            if hashlib.sha256(content).hexdigest() != index["tensors"]:
                raise ValueError("the tensors' checksum is not the recorded one")
            tensors = safetensors.torch.load(content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
            aside = self._index.with_suffix(".damaged")
            self._index.replace(aside)
            self._progress.say(f"checkpoint {self._index} is damaged ({error}): kept as {aside.name}, not gone on from")
            return None
        for name, stride in index["strides"].items():
            tensors[name] = torch.empty_strided(tensors[name].shape, stride, dtype=tensors[name].dtype).copy_(
                tensors[name]
            )
        return State(tensors, index["facts"])

    def clear(self) -> None:
        """Remove what is kept."""
        self._index.unlink(missing_ok=True)
        for path in self._folder.glob(f"{self._name}.*.safetensors"):
            path.unlink(missing_ok=True)

    @property
    def _index(self) -> Path:
        return self._folder / f"{self._name}.json"

    def _tensors(self, digest: str) -> Path:
        return self._folder / f"{self._name}.{digest[:16]}.safetensors"
