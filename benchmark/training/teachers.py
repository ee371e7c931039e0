"""The teacher bank: networks trained once, kept under the hash of everything that made them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import safetensors.torch
from safetensors import SafetensorError

from benchmark.backbones.network import Network
from benchmark.errors import InputError


class TeacherBank:
    """A folder of teachers: ``KEY/weights.safetensors`` and ``KEY/teacher.json``.

    The weights carry the facts in their header too: such a file alone says which network it holds.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def has(self, key: str) -> bool:
        """Whether the teacher is there already."""
        return (self.root / key / "teacher.json").exists()

    def get(self, key: str, network: Network, train: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Load the teacher ``key`` into ``network``, or call ``train``, which trains it in place and returns its facts.

        One process trains a teacher at a time; others wait for it. A damaged teacher raises ``InputError``.
        """
        folder = self.root / key
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(self.root / f"{key}.lock"):
                if not folder.exists():
                    self._save(folder, network, train())
                return self._load(folder, network)
        except OSError as error:
            raise InputError(
                f"cannot keep teachers in {self.root} ({error.strerror or error}); choose another folder with --data"
            ) from None

    def _save(self, folder: Path, network: Network, facts: dict[str, Any]) -> None:
        tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
        weights = safetensors.torch.save(tensors, metadata={"benchmark": json.dumps(facts)})
        facts = {**facts, "weights_sha256": hashlib.sha256(weights).hexdigest()}
        scratch = Path(tempfile.mkdtemp(prefix="new-", dir=self.root))
        try:
            for name, content in (
                ("weights.safetensors", weights),
                ("teacher.json", json.dumps(facts, indent=1).encode()),
            ):
                with open(scratch / name, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            scratch.rename(folder)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise

    def _load(self, folder: Path, network: Network) -> dict[str, Any]:
        try:
            facts: dict[str, Any] = json.loads((folder / "teacher.json").read_text())
            weights = (folder / "weights.safetensors").read_bytes()
            if hashlib.sha256(weights).hexdigest() != facts["weights_sha256"]:
                raise ValueError("its checksum is not the recorded one")
            network.load_state_dict(safetensors.torch.load(weights))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            reason = str(error).split("\n", 1)[0]
            raise InputError(
                f"teacher {folder} is damaged ({reason}); remove that folder and it is trained again"
            ) from None
        return facts
