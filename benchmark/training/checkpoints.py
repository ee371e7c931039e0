"""What a training needs to go on from where another attempt was broken off."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from benchmark.backbones.network import Network
from benchmark.hashing import content_key
from benchmark.methods import Method
from benchmark.system.files import write_atomically
from benchmark.system.interrupts import defer_signals
from benchmark.system.progress import Progress
from benchmark.training.device import Device

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
            with defer_signals():
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


@dataclass(frozen=True)
class TrainingState:
    """What of a training changes from step to step, beside the order of images, which follows from their number."""

    student: Network
    method: Method
    optimiser: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LambdaLR
    scaler: GradScaler
    crops: torch.Generator
    device: Device

    def state(self, sums: dict[str, Tensor], facts: dict[str, Any]) -> State:
        """All of it, with ``sums`` and ``facts``."""
        optimiser = self.optimiser.state_dict()
        tensors = {f"{place}/{name}": value for place, module in self._modules() for name, value in module.items()}
        for number, own in optimiser["state"].items():
            tensors |= {f"optimiser/{number}/{name}": value for name, value in own.items() if value is not None}
        tensors |= {f"sums/{name}": value for name, value in sums.items()}
        tensors |= {f"random/{name}": value for name, value in self.device.random_state().items()}
        tensors["crops"] = self.crops.get_state()
        known = {
            "groups": optimiser["param_groups"], "schedule": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(), "sums": list(sums),
        }  # fmt: skip
        return State(tensors, {**facts, **known})

    def restore(self, state: State) -> dict[str, Tensor]:
        """Bring all of it back to ``state``; its sums."""
        parts: dict[str, dict[str, Tensor]] = {"student": {}, "connector": {}, "sums": {}, "random": {}}
        momenta: dict[int, dict[str, Tensor]] = {}
        for name, value in state.tensors.items():
            place, _, rest = name.partition("/")
            if place == "optimiser":
                number, _, rest = rest.partition("/")
                momenta.setdefault(int(number), {})[rest] = value
            elif place in parts:
                parts[place][rest] = value
        self.student.load_state_dict(parts["student"])
        if self.method.connector is not None:
            self.method.connector.load_state_dict(parts["connector"])
        self.optimiser.load_state_dict({"state": momenta, "param_groups": state.facts["groups"]})
        self.scheduler.load_state_dict(state.facts["schedule"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state.facts["scaler"])
        self.crops.set_state(state.tensors["crops"])
        self.device.set_random_state(parts["random"])
        return {name: parts["sums"][name].to(self.device.torch) for name in state.facts["sums"]}

    def _modules(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        yield "student", self.student.state_dict()
        if self.method.connector is not None:
            yield "connector", self.method.connector.state_dict()
