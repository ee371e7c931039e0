"""The device against the CPU in float64: losses, one step of every method, a short run."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from benchmark.backbones.network import build_network
from benchmark.data import DATASETS
from benchmark.data.augmentation import Normalisation
from benchmark.data.task import hold_out
from benchmark.methods import METHODS, Batch, LabelSpaces, Stage
from benchmark.methods.episodic import Episode, EpisodicMethod
from benchmark.spec import Training
from benchmark.system.progress import Silent
from benchmark.training import fit
from benchmark.training.device import Device
from benchmark.training.frozen_teacher import FrozenTeacher
from benchmark.training.initialisation import build_method, draw_head
from benchmark.training.optimisation import build_optimiser
from gpu_parts.loss_cases import CASES, Case, value_and_gradients
from gpu_parts.report import Finding, Part, Setup, judged, skipped

CPU = torch.device("cpu")
LOSS_BOUNDS = {torch.float64: 1e-9, torch.float32: 1e-5}
"""Largest difference of a value or gradient, divided by the largest entry of the same tensor."""
STEP_BOUNDS = {torch.float64: 1e-8, torch.float32: 5e-3}
"""Largest difference of the change of a weight, divided by the largest change of the network."""
RUN_BOUNDS = {"float64": 1e-6, "float32": 0.01, "bfloat16": 0.1, "float16": 0.1}
"""Difference of the mean loss of the last steps, as a share of it. Weights of float64 keep the same bound."""
SIDE, CLASSES, IMAGES = 16, 6, 24
KINDS = "kd", "crd", "refilled", "lucir", "maml"
"""A method of each kind, for the reduced form."""


class DrawnOnCpu(TorchFunctionMode):
    """Draws ``torch.rand`` on the CPU in float64 whatever the device: CPU and GPU have different generators."""

    def __init__(self) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(0)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Draw for ``torch.rand``; pass on every other call."""
        kwargs = kwargs or {}
        if func is not torch.rand:
            return func(*args, **kwargs)
        drawn = func(*args, dtype=torch.float64, generator=self._generator)
        return drawn.to(kwargs.get("device") or CPU, kwargs.get("dtype") or torch.get_default_dtype())


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Make new tensors of that dtype inside the context."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Return the largest difference of two lists of tensors, relative to the largest entry of each expected tensor."""
    pairs = zip(found, expected, strict=True)
    return max(float((a - b).abs().max() / b.abs().max().clamp_min(1e-30)) for a, b in pairs)


def compare_loss(case: Case, device: torch.device) -> Finding:
    """Compare a loss and its gradients in both dtypes with the CPU's in float64."""
    expected = value_and_gradients(case, CPU, torch.float64)
    apart = {d: difference(value_and_gradients(case, device, d), expected) for d in LOSS_BOUNDS}
    return _bounded(apart, LOSS_BOUNDS)


def changes_of_step(name: str, device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """Train a student for one step of each stage; return the change of its state as one float64 vector on the CPU.

    Args:
        name: A method that learns from batches or episodes.
        device: Where to train.
        dtype: Numbers of weights, images and losses.
    """
    entry = METHODS.get(name).entry
    taught = CLASSES // 2 if entry.needs.labels == "extended" else CLASSES
    backbone = "conv4-32" if entry.needs.start == "teacher" else "conv4-16"
    student = build_network(backbone, channels=3, size=SIDE, classes=CLASSES, seed=1)
    teacher = build_network("conv4-32", channels=3, size=SIDE, classes=taught, seed=2).eval().requires_grad_(False)
    labels = LabelSpaces(tuple(range(CLASSES)), tuple(range(taught)))
    method = build_method(name, None, labels, student, teacher, 0, channels=3, size=SIDE)
    networks: list[nn.Module] = [student, teacher, *([method.connector] if method.connector is not None else [])]
    for network in networks:
        network.to(device, dtype)
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randn(IMAGES, 3, SIDE, SIDE, generator=generator, dtype=torch.float64).to(device, dtype)
    targets = (torch.arange(IMAGES) % CLASSES).to(device)
    index = torch.arange(IMAGES).to(device)
    trains_all = method.needs.trains == "all"
    student.backbone.train(trains_all).requires_grad_(trains_all)
    with default_dtype(dtype), DrawnOnCpu():
        embeddings = teacher.embed(pixels) if method.reads_train_embeddings else None
        method.prepare(student, targets, embeddings)
        before = copy.deepcopy(student.state_dict())
        for stage in method.stages():
            optimiser, _ = build_optimiser(student, method, stage, 1, Training(warmup=0, lr=0.05))
            if isinstance(method, EpisodicMethod):
                support = torch.arange(IMAGES, device=device) < CLASSES
                parts = [tensor[mask] for mask in (support, ~support) for tensor in (pixels, targets)]
                terms = method.episode_loss(student, Episode(*parts))
            else:
                outputs = teacher(pixels) if method.needs.teacher and stage.teacher else None
                terms = method.loss(Batch(targets, index, stage.name, 0.5), student(pixels), outputs)
            optimiser.zero_grad(set_to_none=True)
            torch.stack(list(terms.values())).sum().backward()
            optimiser.step()
    after = {key: value for key, value in student.state_dict().items() if value.is_floating_point()}
    return [torch.cat([(after[key].double() - before[key].double()).flatten().cpu() for key in after if key in before])]


def compare_step(name: str, device: torch.device) -> Finding:
    """Compare one step of a method in both dtypes with the CPU's in float64."""
    expected = changes_of_step(name, CPU, torch.float64)
    if not expected[0].abs().max():
        return judged(False, "the step changes no weight")
    return _bounded({d: difference(changes_of_step(name, device, d), expected) for d in STEP_BOUNDS}, STEP_BOUNDS)


def short_run(name: str, device: Device, dtype: torch.dtype, steps: int) -> tuple[float, list[Tensor]]:
    """Train a small student on the data set ``tiny``; return the mean loss of its last steps and its weights."""
    data = DATASETS.get("tiny").entry(Path())
    task = hold_out(data, data.splits["train"][:CLASSES], 0.25)
    training = Training(steps=steps, batch_size=16, lr=0.02)
    student, teacher = (
        build_network(backbone, channels=3, size=SIDE, classes=CLASSES, seed=seed)
        for seed, backbone in enumerate(("conv4-16", "conv4-32"))
    )
    labels = LabelSpaces(task.classes, task.classes)
    method = build_method(name, None, labels, student, teacher, 0, channels=3, size=SIDE)
    with default_dtype(dtype):
        for network in (student, teacher.eval().requires_grad_(False)):
            network.to(device.torch, dtype)
        norm = Normalisation.of(task.data, task.train)
        frozen = FrozenTeacher(teacher, norm, norm, device)
        shape, generator = (len(task.train), teacher.backbone.dim), torch.Generator().manual_seed(0)
        rows = torch.randn(shape, dtype=torch.float64, generator=generator)
        embeddings = rows.to(device.torch, dtype) if method.reads_train_embeddings else None
        method.prepare(student, torch.from_numpy(task.labels(task.train)).to(device.torch), embeddings)
        result = fit(
            student, method, task, training, norm, teacher=frozen, seed=0, device=device, progress=Silent(),
            title=name, rows=4, reset_heads=False,
        )  # fmt: skip
    last = sum(float(value) for key, value in result.history[-1].items() if key not in ("stage", "step"))
    return last, [value.detach().cpu().double() for value in student.parameters()]


def compare_run(name: str, setup: Setup) -> Finding:
    """Compare a short run in each precision with the CPU's in float64."""
    steps = 6 if setup.small else 20
    cpu = dataclasses.replace(setup.device, torch=CPU)
    expected, weights = short_run(name, cpu, torch.float64, steps)
    exact, found = short_run(name, setup.device, torch.float64, steps)
    apart = {"float64": max(abs(exact / expected - 1), difference(found, weights))}
    for precision in ("float32", "bfloat16", "float16"):
        if precision == "bfloat16" and setup.on_gpu and not torch.cuda.is_bf16_supported(including_emulation=False):
            continue
        loss, _ = short_run(name, dataclasses.replace(setup.device, precision=precision), torch.float32, steps)
        apart[precision] = abs(loss / expected - 1)
    return _bounded(apart, {precision: RUN_BOUNDS[precision] for precision in apart})


def compare_head(device: torch.device) -> Finding:
    """Compare the head that a stage draws again with the CPU's."""
    heads = []
    for place in (CPU, device):
        student = build_network("conv4-16", channels=3, size=SIDE, classes=CLASSES, seed=1).to(place)
        draw_head(student, 0, Stage())
        heads.append([value.detach().cpu().double() for value in student.head.parameters()])
    apart = difference(heads[1], heads[0])
    return judged(apart <= 1e-6, f"{apart:.1e} (bound 1e-06)", difference=apart)


def check(part: Part, setup: Setup) -> None:
    """Run the part."""
    device = setup.device.torch
    for name, case in CASES.items():
        part.check(f"loss {name}: values and gradients against the CPU's float64", partial(compare_loss, case, device))
    part.check("a head that a stage draws again equals the CPU's", partial(compare_head, device))
    left_out = []
    for name in KINDS if setup.small else METHODS.names():
        entry = METHODS.get(name).entry
        if entry.needs.learns == "experiences" or not entry.stages_for(entry.Settings()):
            left_out.append(name)
            continue
        part.check(f"one step of {name} against the CPU's float64", partial(compare_step, name, device))
    if left_out:
        why = skipped("they train nothing, or by the loop of another library")
        part.check(f"one step of {', '.join(left_out)}", lambda: why)
    for name in ("kd",) if setup.small else ("ce", "kd", "at", "rkd", "refilled"):
        part.check(f"a short run of {name} against the CPU's float64", partial(compare_run, name, setup))


def _bounded(apart: dict[Any, float], bounds: dict[Any, float]) -> Finding:
    names = {key: str(key).removeprefix("torch.") for key in apart}
    text = "; ".join(f"{names[key]} {value:.1e} (bound {bounds[key]:.0e})" for key, value in apart.items())
    holds = all(value <= bounds[key] for key, value in apart.items())
    return judged(holds, text, **{names[key]: value for key, value in apart.items()})
