"""Input handling of all losses: leave autocast, widen half precision, check shapes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")


def full_precision(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Run a loss outside autocast, with its floating tensors in their widest common type, at least float32.

    Relations between samples are small differences of large numbers. The 8 bits of bfloat16 do not even keep their
    sign.
    """

    @functools.wraps(loss)
    def outside_autocast(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        floating = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.is_floating_point()]
        dtype = functools.reduce(torch.promote_types, (x.dtype for x in floating), torch.float32)
        device = floating[0].device.type if floating else "cpu"

        def cast(value: Any) -> Any:
            return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

        with torch.autocast(device, enabled=False):
            result: Tensor = loss(*map(cast, args), **{name: cast(value) for name, value in kwargs.items()})
        return result

    return outside_autocast


def shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def check_batch(what: str, axes: str, **tensors: Tensor) -> None:
    """Raise ValueError unless all tensors are floating, with the given axes and the same batch size of at least 1.

    Args:
        what: Name of the loss, for the message.
        axes: Names of the axes, such as ``B C``.
        **tensors: The tensors by argument name.
    """
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{what}: {name} is {tensor.dtype}; pass a floating point tensor")
        if tensor.dim() != len(axes.split()):
            raise ValueError(f"{what}: {name} is {shape(tensor)}; expected {len(axes.split())} dimensions ({axes})")
        if tensor.numel() == 0:
            raise ValueError(f"{what}: {name} is {shape(tensor)}, it has no elements; skip empty batches")
    if len({len(tensor) for tensor in tensors.values()}) > 1:
        shapes = " and ".join(f"{name} {shape(tensor)}" for name, tensor in tensors.items())
        raise ValueError(f"{what}: {shapes} differ in batch size; pass the same samples in the same order")


def check_same_shape(what: str, fix: str, **tensors: Tensor) -> None:
    """Raise ValueError with the shapes and the fix unless all tensors have one shape."""
    if len({tensor.shape for tensor in tensors.values()}) > 1:
        shapes = " and ".join(f"{name} {shape(tensor)}" for name, tensor in tensors.items())
        raise ValueError(f"{what}: {shapes} differ; {fix}")


def check_labels(what: str, labels: Tensor, rows: int, classes: int | None = None) -> None:
    """Raise ValueError unless labels are (rows,) integers, within [0, classes) if ``classes`` is given.

    The range is checked on the CPU only: on an accelerator the host would wait for the device at every step.
    """
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"{what}: labels are {labels.dtype}; pass integer class indices")
    if labels.shape != (rows,):
        raise ValueError(f"{what}: labels are {shape(labels)}; expected one per sample, {rows}")
    if classes is not None and labels.device.type == "cpu" and rows:
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            raise ValueError(f"{what}: labels span {low}..{high}; remap them to 0..{classes - 1}")


def check_positive(what: str, **values: float) -> None:
    """Raise ValueError unless every value is a positive number."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{what}: {name} is {value}; it must be positive")
