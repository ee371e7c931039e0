"""Cores, threads and GPUs of this machine, and the share of each worker."""

from __future__ import annotations

import os
from collections.abc import Sequence


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_per_worker(workers: int) -> int:
    """Return a worker's share of the cores, at most ``OMP_NUM_THREADS`` if that is set."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    share = max(1, usable_cores() // workers)
    return min(share, int(limit)) if limit.isdecimal() and int(limit) else share


def visible_gpus() -> list[str]:
    """Return the names of the CUDA devices that this process sees, as ``CUDA_VISIBLE_DEVICES`` takes them."""
    import torch

    variable = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    if variable is None:
        return [str(number) for number in range(count)]
    return [name for name in variable.split(",") if name][:count]


def worker_environment(number: int, threads: int, gpus: Sequence[str]) -> dict[str, str]:
    """Return the environment variables of a worker: its number of threads and, if there are GPUs, one of them.

    Args:
        number: the worker's number, from 0.
        threads: threads for every numerical library.
        gpus: names of the GPUs, which workers take in turn.
    """
    names = "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"
    gpu = {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}
    return dict.fromkeys(names, str(threads)) | gpu
