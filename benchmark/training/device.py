"""Device and precision: what a run computes on, and how precisely."""

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


@dataclass(frozen=True)
class Device:
    """A torch device, the type of the networks' forward pass on it, and whether that is compiled."""

    torch: torch.device
    precision: Literal["float32", "bfloat16", "float16"]
    compiled: bool = False

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """The context of a network's forward pass. Losses stay outside of it."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.torch.type, torch.bfloat16 if self.precision == "bfloat16" else torch.float16)

    def scaler(self) -> GradScaler:
        """Keeps the gradients of float16 from vanishing, and skips a step where they overflow; else does nothing."""
        return GradScaler(self.torch.type, enabled=self.precision == "float16")

    def ready(self, network: nn.Module) -> Callable[[Tensor], Any]:
        """The network's forward pass as training calls it: compiled where that is asked for."""
        return torch.compile(network) if self.compiled else network

    @contextlib.contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Within, whatever draws without a generator of its own, as dropout does, draws from ``seed``."""
        with torch.random.fork_rng(devices=[self.torch] if self.torch.type == "cuda" else []):
            torch.manual_seed(seed)
            yield

    def random_state(self) -> dict[str, Tensor]:
        """Where the generators are that ``seeded`` is about, by device."""
        state = {"cpu": torch.get_rng_state()}
        if self.torch.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.torch)
        return state

    def set_random_state(self, state: Mapping[str, Tensor]) -> None:
        """Bring them back there."""
        torch.set_rng_state(state["cpu"])
        if self.torch.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.torch)


def select_device(name: str = "auto", precision: str = "auto", *, compiled: bool = False) -> Device:
    """Device by name (``auto``, ``cpu``, ``cuda``, ``mps``); ``auto`` precision is bfloat16 where the hardware
    computes in it.

    On CPUs bfloat16 means AVX-512 bfloat16 or AMX instructions: elsewhere it is emulated and slower than float32. The
    choice depends on the machine alone, never on a timing. A device that is not there raises ``InputError``.
    ``compiled``: by torch.compile, which takes a while at the start and changes results by rounding.
    A CPU's memory allocator is told to keep what is freed: see ``_keep_freed_memory``.
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
    if precision == "float16":
        return Device(torch.device(name), "float16", compiled)
    if precision == "bfloat16" or (precision == "auto" and _computes_in_bfloat16(name)):
        return Device(torch.device(name), "bfloat16", compiled)
    return Device(torch.device(name), "float32", compiled)


def _computes_in_bfloat16(name: str) -> bool:
    if name == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if name == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def _keep_freed_memory() -> None:
    """Have glibc reuse large blocks instead of returning them to the kernel, which hands each back page by page.

    A training step frees and asks again for the same tensors of many MiB; without this a third of a step of conv4-64
    goes into page faults. Nothing is done where there is no ``mallopt``.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_max = -1, -4
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_max, 0)
