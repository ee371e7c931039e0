"""Images per second, peak memory, and the share of each phase of a training step."""

from __future__ import annotations

import dataclasses
import gc
import math
import statistics
import time
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.backbones.network import build_network
from benchmark.errors import InputError
from benchmark.methods import METHODS, Batch, LabelSpaces, Stage
from benchmark.spec import Training
from benchmark.training.device import Device, Precision
from benchmark.training.initialisation import build_method
from benchmark.training.optimisation import build_optimiser
from gpu_parts.report import NEEDS_CUDA, Finding, Part, Setup, judged, skipped

PHASES = "teacher", "forward", "loss", "backward", "optimiser"
CLASSES = 100
COMPILE_SECONDS = 90.0
"""Seconds that must be left before a network is compiled."""


class Workload(NamedTuple):
    """A student, its teacher, and the images of a step."""

    student: str
    teacher: str
    size: int
    batch: int
    rows: int
    """Training images, of which some methods keep a memory."""


FULL = (
    Workload("resnet8x4", "resnet32x4", 32, 64, 50_000), Workload("wrn-40-2", "wrn-40-2", 32, 128, 50_000),
    Workload("resnet12", "resnet12", 84, 64, 38_400), Workload("conv4-64", "conv4-64", 32, 64, 7_300),
)  # fmt: skip
SMALL = (Workload("conv4-16", "conv4-16", 16, 8, 200), Workload("resnet8", "resnet8", 16, 8, 200))


class Stopwatch:
    """Marks moments of a device's work without waiting for it."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._marks: list[torch.cuda.Event | float] = []

    def mark(self) -> None:
        """Mark the end of the work that was ordered so far."""
        if not self._on_gpu:
            self._marks.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._marks.append(event)

    def milliseconds(self) -> list[float]:
        """Return the milliseconds between the marks; waits for the device."""
        if self._on_gpu:
            torch.cuda.synchronize()
        spans = []
        for a, b in zip(self._marks, self._marks[1:], strict=False):
            if isinstance(a, float) or isinstance(b, float):
                spans.append(1000 * (float(b) - float(a)))  # type: ignore[arg-type]
            else:
                spans.append(a.elapsed_time(b))
        return spans


class Step:
    """A training step as the loop takes it, on one batch that stays on the device."""

    def __init__(self, work: Workload, name: str, stage_number: int, device: Device) -> None:
        """Build networks, method and optimiser.

        Raises:
            InputError: The method does not fit the networks.
        """
        entry = METHODS.get(name).entry
        backbone = work.teacher if entry.needs.start == "teacher" else work.student
        taught = CLASSES // 2 if entry.needs.labels == "extended" else CLASSES
        self.device = device
        self.student = build_network(backbone, channels=3, size=work.size, classes=CLASSES, seed=0).to(device.torch)
        teacher = build_network(work.teacher, channels=3, size=work.size, classes=taught, seed=1).to(device.torch)
        teacher.eval().requires_grad_(False)
        spaces = LabelSpaces(tuple(range(CLASSES)), tuple(range(taught)))
        self.method = build_method(name, None, spaces, self.student, teacher, 0, channels=3, size=work.size)
        if self.method.connector is not None:
            self.method.connector.to(device.torch).train()
        trains_all = self.method.needs.trains == "all"
        self.student.train().backbone.train(trains_all).requires_grad_(trains_all)
        labels = torch.arange(work.rows, device=device.torch) % CLASSES
        reads = self.method.reads_train_embeddings
        embeddings = torch.randn(work.rows, teacher.backbone.dim, device=device.torch) if reads else None
        self.method.prepare(self.student, labels, embeddings)
        self.stage: Stage = self.method.stages()[stage_number]
        training = Training(lr=1e-3, warmup=0)
        self.optimiser, _ = build_optimiser(self.student, self.method, self.stage, 1000, training)
        self.scaler = device.scaler()
        self.reads_teacher = self.method.needs.teacher and self.stage.teacher
        self._forward, self._teacher = device.ready(self.student), device.ready(teacher)
        pixels = torch.randn(work.batch, 3, work.size, work.size, device=device.torch)
        self.pixels = pixels.contiguous(memory_format=torch.channels_last)
        index = torch.arange(work.batch, device=device.torch)
        self.batch = Batch(labels[index], index, self.stage.name, 0.5)

    def __call__(self, watch: Stopwatch) -> Tensor:
        """Take one step, mark its phases, and return the loss."""
        watch.mark()
        teacher_outputs = None
        if self.reads_teacher:
            with torch.no_grad(), self.device.autocast():
                teacher_outputs = self._teacher(self.pixels).float()
        watch.mark()
        with self.device.autocast():
            outputs = self._forward(self.pixels)
        watch.mark()
        terms = self.method.loss(self.batch, outputs.float(), teacher_outputs)
        loss = torch.stack(list(terms.values())).sum()
        watch.mark()
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        watch.mark()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        watch.mark()
        return loss.detach()


def phases(step: Step, rounds: int) -> tuple[dict[str, float], float]:
    """Return the median milliseconds of each phase, and the last loss."""
    loss = step(Stopwatch(step.device.torch))
    times = []
    for _ in range(rounds):
        watch = Stopwatch(step.device.torch)
        loss = step(watch)
        times.append(watch.milliseconds())
    medians = (statistics.median(column) for column in zip(*times, strict=True))
    return dict(zip(PHASES, medians, strict=True)), float(loss)


def throughput(work: Workload, device: Device, seconds: float) -> Finding:
    """Measure images per second and the peak memory of steps by ``ce``.

    Args:
        work: Network and images.
        device: Device, precision and whether networks are compiled.
        seconds: Seconds to measure, after three steps that warm up.
    """
    on_gpu = device.torch.type == "cuda"
    if on_gpu and device.precision == "bfloat16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return skipped("this GPU has no bfloat16")
    gc.collect()  # of the networks before, whose schedules refer to themselves
    step = Step(work, "ce", 0, device)
    for _ in range(3):
        step(Stopwatch(device.torch))
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    started, count, loss = time.perf_counter(), 0, torch.zeros(())
    while time.perf_counter() - started < seconds:
        for _ in range(10 if on_gpu else 1):
            loss = step(Stopwatch(device.torch))
            count += 1
        if on_gpu:
            torch.cuda.synchronize()
    rate = count * work.batch / (time.perf_counter() - started)
    peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else None
    memory = "peak memory needs CUDA" if peak is None else f"peak {peak:.0f} MiB"
    text = f"{rate:.0f} images/s, {memory}"
    return _finite(float(loss), text, images_per_second=rate, peak_mib=peak, batch=work.batch)


def shares(work: Workload, name: str, stage_number: int, setup: Setup) -> Finding:
    """Measure the share of each phase in a step of a method, in float32."""
    try:
        step = Step(work, name, stage_number, setup.device)
    except InputError as error:
        return skipped(str(error))
    times, loss = phases(step, 2 if setup.small else 15)
    total = sum(times.values())
    text = ", ".join(f"{phase} {value / total:.0%}" for phase, value in times.items())
    return _finite(loss, f"{total:.2f} ms: {text}", milliseconds=times, batch=work.batch)


def check(part: Part, setup: Setup) -> None:
    """Run the part: precisions first, then methods of the first network, compiled networks, other methods."""
    seconds = 0.05 if setup.small else 1.5
    workloads = SMALL if setup.small else FULL
    precisions: tuple[Precision, ...] = ("float32", "bfloat16", "float16")
    for work in workloads:
        for precision in precisions:
            device = dataclasses.replace(setup.device, precision=precision)
            part.check(
                f"ce, {_title(work)}, {precision}", partial(throughput, work, device, seconds), needs=2 * seconds
            )
    _check_methods(part, setup, workloads[0])
    for work in workloads:
        device = dataclasses.replace(setup.device, compiled=True)
        measure = partial(throughput, work, device, seconds) if setup.on_gpu else (lambda: NEEDS_CUDA)
        part.check(f"ce, {_title(work)}, float32 compiled", measure, needs=COMPILE_SECONDS if setup.on_gpu else 0)
    for work in workloads[1:]:
        _check_methods(part, setup, work)


def _check_methods(part: Part, setup: Setup, work: Workload) -> None:
    for name in ("ce", "kd", "refilled") if setup.small else METHODS.names():
        entry = METHODS.get(name).entry
        if entry.needs.learns != "batches":  # the networks are part of their loss, or the loop is another library's
            continue
        for number, stage in enumerate(entry.stages_for(entry.Settings())):
            what = f"step of {name} ({stage.name}), {_title(work)}"
            part.check(what, partial(shares, work, name, number, setup))


def _title(work: Workload) -> str:
    return f"{work.student} at {work.size} px, batch {work.batch}"


def _finite(loss: float, text: str, **values: object) -> Finding:
    """Return a measurement, or a failure if the loss is not finite."""
    if not math.isfinite(loss):
        return judged(False, f"{text}; the loss is {loss}", **values)
    return Finding("measured", text, values)
