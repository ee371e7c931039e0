"""Device and precision of a run."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from benchmark.errors import InputError

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Device:
    """A torch device, the precision of forward passes on it, and whether they are compiled."""

    torch: torch.device
    precision: Precision
    compiled: bool = False

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return the context of a network's forward pass. Losses are computed outside of it."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.torch.type, torch.bfloat16 if self.precision == "bfloat16" else torch.float16)

    def scaler(self) -> GradScaler:
        """Return the scaler of gradients. It acts in float16 only, and skips steps whose gradients overflow."""
        return GradScaler(self.torch.type, enabled=self.precision == "float16")

    def ready(self, network: nn.Module) -> Callable[[Tensor], Any]:
        """Return the network's forward pass for training, compiled if the device says so."""
        return torch.compile(network) if self.compiled else network

    @contextlib.contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Seed the global generators, used e.g. by dropout, inside the context."""
        with torch.random.fork_rng(devices=[self.torch] if self.torch.type == "cuda" else []):
            torch.manual_seed(seed)
            yield

    def random_state(self) -> dict[str, Tensor]:
        """Return the states of the global generators, by device."""
        state = {"cpu": torch.get_rng_state()}
        if self.torch.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.torch)
        return state

    def set_random_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the states of the global generators."""
        torch.set_rng_state(state["cpu"])
        if self.torch.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.torch)


def select_device(name: str = "auto", precision: Precision = "float32", *, compiled: bool = False) -> Device:
    """Choose the device; the choice depends on the machine, not on timings.

    On a CPU this also sets the memory allocator: see ``_keep_freed_memory``. On a GPU, float32 means float32: the
    shorter TF32, PyTorch's own choice for convolutions, is turned off.

    Args:
        name: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``float32``, ``bfloat16`` or ``float16``.
        compiled: Whether to use torch.compile, which starts slowly and changes results by rounding.

    Raises:
        InputError: If the device is unknown or not available.
    """
    if name not in ("auto", "cpu", "cuda", "mps"):
        raise InputError(f"unknown device {name!r}; known: auto, cpu, cuda, mps")
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(d for d in ("cuda", "mps", "cpu") if available[d])
    if not available[name]:
        raise InputError(f"device {name!r} is not available on this machine; use --device auto or cpu")
    if name == "cpu":
        _keep_freed_memory()
    if name == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    return Device(torch.device(name), precision, compiled)


def _keep_freed_memory() -> None:
    """Let glibc reuse large blocks instead of returning them to the kernel.

    A training step frees and allocates the same tensors of many MiB. Otherwise page faults take a third of a step of
    conv4-64. Systems without ``mallopt`` are left as they are.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_max = -1, -4
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_max, 0)
