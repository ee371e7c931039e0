"""The teacher bank: networks trained once, kept under the hash of everything that made them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import safetensors.torch
from safetensors import SafetensorError

from benchmark.backbones.network import Network
from benchmark.errors import InputError
from benchmark.system.files import set_aside
from benchmark.system.interrupts import defer_signals
from benchmark.system.progress import Progress, Silent
from benchmark.training.output_cache import TeacherOutputCache


class TeacherStore:
    """A folder of teachers: ``KEY/weights.safetensors`` and ``KEY/teacher.json``.

    The weights carry the facts in their header too: such a file alone says which network it holds. ``passes``: what
    teachers have made of batches before; none by default.
    """

    def __init__(self, root: Path, progress: Progress | None = None, passes: TeacherOutputCache | None = None) -> None:
        self.root = root
        self.passes = TeacherOutputCache(0) if passes is None else passes
        self._progress = progress or Silent()

    def has(self, key: str) -> bool:
        """Whether the teacher is there already."""
        return (self.root / key / "teacher.json").exists()

    def get(self, key: str, network: Network, train: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Load the teacher ``key`` into ``network``, or call ``train``, which trains it in place and returns its facts.

        One process trains a teacher at a time; others wait for it. A damaged teacher is set aside as ``KEY.damaged``,
        which is said, and trained anew.
        """
        folder = self.root / key
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(self.root / f"{key}.lock"):
                if folder.exists():
                    drawn = {name: value.clone() for name, value in network.state_dict().items()}
                    try:
                        return _load(folder, network)
                    except _DamagedError as error:
                        aside = set_aside(folder)
                        self._progress.say(f"teacher {folder} is damaged ({error}): kept as {aside.name}, trained anew")
                        network.load_state_dict(drawn)
                self._save(folder, network, train())
                return _load(folder, network)
        except OSError as error:
            raise InputError(
                f"cannot keep teachers in {self.root} ({error.strerror or error}); choose another folder with --data"
            ) from None

    def _save(self, folder: Path, network: Network, facts: dict[str, Any]) -> None:
        tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
        weights = safetensors.torch.save(tensors, metadata={"benchmark": json.dumps(facts)})
        facts = {**facts, "weights_sha256": hashlib.sha256(weights).hexdigest()}
        scratch = self.root / f"new-{folder.name}"
        if scratch.exists():  # of a process that was killed: whoever writes this teacher holds its lock
            shutil.rmtree(scratch)
        scratch.mkdir()
        try:
            with defer_signals():
                for name, content in (
                    ("weights.safetensors", weights),
                    ("teacher.json", json.dumps(facts, indent=1).encode()),
                ):
                    with open(scratch / name, "wb") as file:
                        file.write(content)
                        file.flush()
                        os.fsync(file.fileno())
                scratch.rename(folder)
        except OSError:
            shutil.rmtree(scratch, ignore_errors=True)
            raise


class _DamagedError(Exception):
    """A teacher that cannot be loaded, and why."""


def _load(folder: Path, network: Network) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / "teacher.json").read_text())
        weights = (folder / "weights.safetensors").read_bytes()
        if hashlib.sha256(weights).hexdigest() != facts["weights_sha256"]:
            raise ValueError("its checksum is not the recorded one")
        length = int.from_bytes(weights[:8], "little")
        known = json.loads(json.loads(weights[8 : 8 + length])["__metadata__"]["benchmark"])
        if known != {name: value for name, value in facts.items() if name != "weights_sha256"}:
            raise ValueError("its facts are not those in the weights' header")
        network.load_state_dict(safetensors.torch.load(weights))
    except (FileNotFoundError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise _DamagedError(str(error).split("\n", 1)[0]) from None
    return facts
