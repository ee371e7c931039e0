"""Trained teachers, stored under the hash of everything that determines them."""

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
from benchmark.errors import InputError, os_reason
from benchmark.system.files import set_aside
from benchmark.system.interrupts import defer_signals
from benchmark.system.progress import Progress, Silent
from benchmark.training.output_cache import TeacherOutputCache


class TeacherStore:
    """A folder of teachers: ``KEY/weights.safetensors`` and ``KEY/teacher.json``.

    The header of the weights repeats the facts, so the weights alone say which network they hold.

    Attributes:
        root: The folder.
        output_cache: Outputs of the teachers for batches of earlier runs.
    """

    def __init__(
        self, root: Path, progress: Progress | None = None, output_cache: TeacherOutputCache | None = None
    ) -> None:
        """Open a folder, which may be missing.

        Args:
            root: The folder.
            progress: Receives a message about a damaged teacher.
            output_cache: Cache to share with other runs; by default nothing is cached.
        """
        self.root = root
        self.output_cache = TeacherOutputCache(0) if output_cache is None else output_cache
        self._progress = progress or Silent()

    def has(self, key: str) -> bool:
        """Return whether the teacher is stored."""
        return (self.root / key / "teacher.json").exists()

    def get(self, key: str, network: Network, train: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Load a teacher into ``network``, or train and store it.

        One process trains a teacher at a time; others wait for it. A damaged teacher is renamed to ``KEY.damaged``,
        reported and trained again.

        Args:
            key: Key of the teacher.
            network: Network of the teacher's architecture, as training starts it.
            train: Trains ``network`` in place and returns its facts.

        Returns:
            The facts of the teacher.

        Raises:
            InputError: If the folder cannot be written.
        """
        folder = self.root / key
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(self.root / f"{key}.lock"):
                if folder.exists():
                    untrained = {name: value.clone() for name, value in network.state_dict().items()}
                    try:
                        return _load(folder, network)
                    except _DamagedError as error:
                        aside = set_aside(folder)
                        self._progress.say(
                            f"teacher {folder} is damaged ({error}): kept as {aside.name}, trained again"
                        )
                        network.load_state_dict(untrained)
                self._save(folder, network, train())
                return _load(folder, network)
        except OSError as error:
            raise InputError(
                f"cannot keep teachers in {self.root} ({os_reason(error)}); choose another folder with --data"
            ) from None

    def _save(self, folder: Path, network: Network, facts: dict[str, Any]) -> None:
        tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
        weights = safetensors.torch.save(tensors, metadata={"benchmark": json.dumps(facts)})
        facts = {**facts, "weights_sha256": hashlib.sha256(weights).hexdigest()}
        scratch = self.root / f"new-{folder.name}"
        if scratch.exists():  # left by a killed process: the writer of this teacher holds its lock
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
    """The reason why a teacher cannot be loaded."""


def _load(folder: Path, network: Network) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / "teacher.json").read_text())
        weights = (folder / "weights.safetensors").read_bytes()
        if hashlib.sha256(weights).hexdigest() != facts["weights_sha256"]:
            raise ValueError("its checksum is not the recorded one")
        length = int.from_bytes(weights[:8], "little")
        header = json.loads(json.loads(weights[8 : 8 + length])["__metadata__"]["benchmark"])
        if header != {name: value for name, value in facts.items() if name != "weights_sha256"}:
            raise ValueError("its facts are not those in the weights' header")
        network.load_state_dict(safetensors.torch.load(weights))
    except (FileNotFoundError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise _DamagedError(str(error).split("\n", 1)[0]) from None
    return facts
