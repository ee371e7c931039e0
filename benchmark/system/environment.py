"""The environment of a run, for its record: versions, processor, commit and memory. None of it enters a key."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from benchmark import __version__


def describe_environment(device: torch.device, precision: str, compiled: bool = False) -> dict[str, Any]:
    """Return package versions, processor, threads, precision, compilation and commit as JSON values."""
    packages = ("torch", "torchvision", "numpy", "scipy")
    return {
        "benchmark": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        "platform": f"{platform.system()} {platform.machine()}",
        **_processor(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "device": device.type,
        "precision": precision,
        "compiled": compiled,
        "threads": torch.get_num_threads(),
        "commit": _commit(),
    }


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak memory in MiB: of the GPU if that is the device, otherwise of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _processor() -> dict[str, str]:
    """Return name, model and instruction set of the processor: a name such as AMD EPYC stands for many."""
    described: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").split("\n\n", 1)[0].splitlines():
            name, _, value = line.partition(":")
            described[name.strip()] = value.strip()
    flags = (described.get("flags") or described.get("Features") or "").split()
    vectors = [flag for flag in flags if flag.startswith(("avx", "amx", "fma", "asimd", "sve", "bf16"))]
    numbers = [f"{name.split()[-1]} {described[name]}" for name in _MODEL if name in described]
    return {
        "cpu": described.get("model name") or platform.processor() or platform.machine(),
        "cpu_model": ", ".join(numbers),
        "instruction_set": f"{torch.backends.cpu.get_cpu_capability()} ({' '.join(sorted(vectors))})",
    }


_MODEL = ("cpu family", "model", "stepping", "CPU implementer", "CPU part", "CPU revision")


def _commit() -> str | None:
    """Return the commit of the source tree, with ``+`` if it has changes; None outside a repository."""
    folder = Path(__file__).parent
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit + "+" if _git(folder, "status", "--porcelain", "--untracked-files=no", ".") else commit
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *words], check=True, capture_output=True, text=True, timeout=10
    ).stdout.strip()
