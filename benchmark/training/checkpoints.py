"""Checkpoints from which an interrupted training resumes, bit for bit."""

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
from benchmark.errors import os_reason
from benchmark.hashing import content_key
from benchmark.methods import Method
from benchmark.system.files import write_atomically
from benchmark.system.interrupts import defer_signals
from benchmark.system.progress import Progress
from benchmark.training.device import Device
from benchmark.training.term_log import TermLog

VERSION = 1
"""Rises when a checkpoint holds other things than before."""

SECONDS = 60.0
"""Default seconds between two checkpoints of a training."""


@dataclass(frozen=True)
class Snapshot:
    """Tensors by name, which keep their memory layout, and JSON values."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


class Checkpoints:
    """A folder of interrupted trainings, with one folder for each run and each teacher, by key.

    Device, precision and torch are part of a folder's name. Under other conditions a training starts again, because it
    would not give the same numbers.
    """

    def __init__(self, root: Path, device: Device, progress: Progress, every: float = SECONDS) -> None:
        """Open a folder, which may be missing.

        Args:
            root: The folder.
            device: Device and precision.
            progress: Receives messages about damaged or impossible checkpoints.
            every: Seconds between two checkpoints of a training.
        """
        self._root = root
        self._conditions = [
            device.torch.type, device.precision, torch.__version__, torch.backends.cpu.get_cpu_capability()
        ]  # fmt: skip
        self._every = every
        self._progress = progress

    def part(self, key: str, name: str) -> Checkpoint:
        """Return the checkpoint of one training of the run or teacher ``key``."""
        return Checkpoint(self._folder(key), name, self._every, self._progress)

    def clear(self, key: str) -> None:
        """Remove all checkpoints of ``key``."""
        shutil.rmtree(self._folder(key), ignore_errors=True)

    def _folder(self, key: str) -> Path:
        return self._root / content_key([key, self._conditions, VERSION])[:16]


class Checkpoint:
    """The latest state of one training: ``NAME.json``, and ``NAME.HASH.safetensors`` with the hash of its content."""

    def __init__(self, folder: Path, name: str, every: float, progress: Progress) -> None:
        self._folder = folder
        self._name = name
        self._every = every
        self._progress = progress
        self._last = time.monotonic()

    def due(self) -> bool:
        """Return whether it is time for another checkpoint."""
        return time.monotonic() - self._last >= self._every

    def save(self, snapshot: Snapshot) -> None:
        """Replace the checkpoint by ``snapshot``; signals to stop wait until it is written.

        If the folder cannot be written, report it and continue the training.
        """
        tensors = {name: tensor.detach().cpu() for name, tensor in snapshot.tensors.items()}
        strides = {name: t.stride() for name, t in tensors.items() if not t.is_contiguous()}
        # clones: safetensors refuses tensors that share memory
        contiguous = {name: t.clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
        content = safetensors.torch.save(contiguous)
        digest = hashlib.sha256(content).hexdigest()
        index = {"version": VERSION, "tensors": digest, "strides": strides, "facts": snapshot.facts}
        # the checksum of the index reveals a flipped bit in one of its numbers
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
                f"no checkpoint can be kept in {self._folder} ({os_reason(error)}); if it is interrupted, "
                "this training starts again"
            )
        self._last = time.monotonic()

    def load(self) -> Snapshot | None:
        """Return the snapshot, or None. A damaged one is renamed to ``NAME.damaged`` and reported."""
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
            self._progress.say(f"checkpoint {self._index} is damaged ({error}): kept as {aside.name}, not resumed")
            return None
        for name, stride in index["strides"].items():
            tensors[name] = torch.empty_strided(tensors[name].shape, stride, dtype=tensors[name].dtype).copy_(
                tensors[name]
            )
        return Snapshot(tensors, index["facts"])

    def clear(self) -> None:
        """Remove the checkpoint."""
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
    """The objects of a training that change from step to step; the order of images follows from the step."""

    student: Network
    method: Method
    optimiser: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LambdaLR
    scaler: GradScaler
    crop_generator: torch.Generator
    device: Device
    log: TermLog

    def snapshot(self, **position: int) -> Snapshot:
        """Return the state of all objects.

        Args:
            position: Step, and stage if there are several; kept among the facts.
        """
        optimiser = self.optimiser.state_dict()
        tensors = {f"{place}/{name}": value for place, module in self._modules() for name, value in module.items()}
        for number, momentum in optimiser["state"].items():
            tensors |= {f"optimiser/{number}/{name}": value for name, value in momentum.items() if value is not None}
        sums, log = self.log.state()
        tensors |= sums
        tensors |= {f"random/{name}": value for name, value in self.device.random_state().items()}
        tensors["crops"] = self.crop_generator.get_state()
        facts = {
            **position, **log, "groups": optimiser["param_groups"], "schedule": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
        }  # fmt: skip
        return Snapshot(tensors, facts)

    def restore(self, snapshot: Snapshot) -> None:
        """Set all objects to the state of ``snapshot``."""
        parts: dict[str, dict[str, Tensor]] = {"student": {}, "connector": {}, "random": {}}
        momenta: dict[int, dict[str, Tensor]] = {}
        for name, value in snapshot.tensors.items():
            place, _, rest = name.partition("/")
            if place == "optimiser":
                number, _, rest = rest.partition("/")
                momenta.setdefault(int(number), {})[rest] = value
            elif place in parts:
                parts[place][rest] = value
        self.student.load_state_dict(parts["student"])
        if self.method.connector is not None:
            self.method.connector.load_state_dict(parts["connector"])
        self.optimiser.load_state_dict({"state": momenta, "param_groups": snapshot.facts["groups"]})
        self.scheduler.load_state_dict(snapshot.facts["schedule"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(snapshot.facts["scaler"])
        self.crop_generator.set_state(snapshot.tensors["crops"])
        self.device.set_random_state(parts["random"])
        self.log.restore(snapshot.tensors, snapshot.facts, self.device.torch)

    def _modules(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        yield "student", self.student.state_dict()
        if self.method.connector is not None:
            yield "connector", self.method.connector.state_dict()
