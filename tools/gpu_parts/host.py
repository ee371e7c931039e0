"""The host never waits for the device within a step, but where the log reads the loss."""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.profiler import ProfilerActivity, profile, record_function

from benchmark.backbones.network import build_network
from benchmark.data import DATASETS
from benchmark.data.augmentation import Normalisation
from benchmark.data.task import hold_out
from benchmark.methods import METHODS, LabelSpaces
from benchmark.methods.episodic import EpisodicMethod
from benchmark.spec import Training
from benchmark.system.progress import Silent
from benchmark.training import episodic_loop, loop
from benchmark.training.device import Device
from benchmark.training.frozen_teacher import FrozenTeacher
from benchmark.training.initialisation import build_method
from benchmark.training.term_log import TermLog
from gpu_parts.loss_cases import CASES, WAITING, Case, Draw
from gpu_parts.report import Finding, Part, Setup, judged, measured

STEPS, ROWS = 12, 3
STEP_ENDS, LOG_READS = "end of a step", "the log reads"
SLACK = 20.0
"""Microseconds by which the clocks of host and device may differ."""
CUDA_WAITS = "cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy"
"""Calls of the driver in which the host waits."""
VALUE_READS = "aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::equal"
"""Operators that read values: on a GPU the host would wait in them."""


WAIT_MESSAGE = "called a synchronizing CUDA operation"
"""What CUDA's debug mode says of a wait."""
KNOWN = {"protonet": "learn2learn selects the images of a class by their labels"}
"""Methods whose steps are known to wait, and why."""


@contextlib.contextmanager
def watched(module: ModuleType, after_step: Callable[[bool], None]) -> Iterator[None]:
    """Mark the steps and the reads of the log in a training loop, for the profiler.

    Args:
        module: The module of the loop.
        after_step: Called with True when steps begin to count, and after each read of the log; with False before it.
    """

    class Watched(TermLog):
        def end_step(self, stage: str, *, images: int, last: bool) -> None:
            super().end_step(stage, images=images, last=last)
            with record_function(STEP_ENDS):
                after_step(not last)

        def _write_row(self) -> None:
            after_step(False)
            with record_function(LOG_READS):
                super()._write_row()

    original = vars(module)["TermLog"]
    setattr(module, "TermLog", Watched)  # noqa: B010
    try:
        yield
    finally:
        setattr(module, "TermLog", original)  # noqa: B010
        after_step(False)


def train(name: str, device: Device, after_step: Callable[[bool], None]) -> None:
    """Train a small student by a method for some steps; the loop is watched."""
    data = DATASETS.get("tiny").entry(Path())
    task = hold_out(data, data.splits["train"][:6], 0.25)
    entry = METHODS.get(name).entry
    student, teacher = (
        build_network(backbone, channels=3, size=16, classes=6, seed=seed).to(device.torch)
        for seed, backbone in enumerate(("conv4-32" if entry.needs.start == "teacher" else "conv4-16", "conv4-32"))
    )
    teacher.eval().requires_grad_(False)
    spaces = LabelSpaces(task.classes, task.classes)
    method = build_method(name, None, spaces, student, teacher, 0, channels=3, size=16)
    if method.connector is not None:
        method.connector.to(device.torch)
    trains_all = method.needs.trains == "all"
    student.backbone.requires_grad_(trains_all)
    norm = Normalisation.of(task.data, np.sort(task.train))
    embeddings = torch.randn(len(task.train), teacher.backbone.dim, device=device.torch)
    labels = torch.from_numpy(task.labels(task.train)).to(device.torch)
    method.prepare(student, labels, embeddings if method.reads_train_embeddings else None)
    training = Training(steps=STEPS, batch_size=30, lr=0.01)
    if isinstance(method, EpisodicMethod):
        student.replace_head(3, 0)
        student.to(device.torch)
        with watched(episodic_loop, after_step):
            episodic_loop.fit_episodes(
                student, method, task, training, norm, way=3, shot=1, seed=0, device=device, progress=Silent(),
                title=name, rows=ROWS,
            )  # fmt: skip
        return
    frozen = FrozenTeacher(teacher, norm, norm, device)
    with watched(loop, after_step):
        loop.fit(
            student, method, task, training, norm, teacher=frozen if method.needs.teacher else None, seed=0,
            device=device, progress=Silent(), title=name, rows=ROWS,
        )  # fmt: skip


def profiled_waits(name: str, device: Device) -> Counter[str]:
    """Count the waits within the steps of a training, without the reads of the log, by the profiler.

    On a GPU these are calls of the driver in which the host waits, and copies to the host; each with the operator that
    made it. On a CPU these are operators that read values.
    """
    on_gpu = device.torch.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities, acc_events=True) as profiler:
        train(name, device, lambda counts: None)
    events = list(profiler.events() or ())
    ends = [event.time_range.end for event in events if event.name == STEP_ENDS]
    reads = [event.time_range for event in events if event.name == LOG_READS]
    if len(ends) < STEPS or not reads:
        raise RuntimeError(f"the profiler saw {len(ends)} of {STEPS} steps and {len(reads)} reads of the log")
    first, last = min(ends), max(ends)
    waits: Counter[str] = Counter()
    for event in events:
        start = event.time_range.start
        is_wait = (
            event.name in CUDA_WAITS or event.name.startswith("Memcpy DtoH") if on_gpu else event.name in VALUE_READS
        )
        by_log = any(read.start - SLACK <= start <= read.end + SLACK for read in reads)
        if is_wait and first < start < last and not by_log:
            parent = event.cpu_parent
            waits[event.name if parent is None else f"{event.name} in {parent.name}"] += 1
    return waits


def places_of_waits(name: str, device: Device) -> Counter[str]:
    """Count the waits within the steps of a training by the line of Python, as CUDA's debug mode warns of them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(name, device, lambda counts: torch.cuda.set_sync_debug_mode("warn" if counts else "default"))
    lines = (warning for warning in caught if WAIT_MESSAGE in str(warning.message))
    return Counter(f"{Path(warning.filename).name}:{warning.lineno}" for warning in lines)


def check_training(name: str, setup: Setup) -> Finding:
    """Judge the steps of one method."""
    waits = profiled_waits(name, setup.device)
    count, steps = sum(waits.values()), STEPS - 1
    if not setup.on_gpu:
        text = f"{count} values read in {steps} steps on the CPU, which waits for nobody: {_listed(waits)}; needs CUDA"
        return measured(text, reads=dict(waits))
    places = places_of_waits(name, setup.device)
    if not waits and not places:
        return judged(True, f"no wait in {steps} steps", waits={}, places={})
    text = f"{count} waits in {steps} steps: {_listed(waits)}; lines: {_listed(places)}"
    if name in KNOWN:
        return measured(f"{text}; known: {KNOWN[name]}", waits=dict(waits), places=dict(places))
    return judged(False, text, waits=dict(waits), places=dict(places))


def check_losses(setup: Setup) -> Finding:
    """Judge all losses: forward and backward under CUDA's debug mode, or forward by tensors without values."""
    waits = _waits_on_gpu if setup.on_gpu else _reads_a_value
    waiting = [name for name, case in CASES.items() if waits(case, setup.device.torch)]
    documented = ", ".join(sorted(WAITING))
    how = "" if setup.on_gpu else ", forward, by tensors without values; the rest needs CUDA"
    text = f"{len(CASES) - len(waiting)} of {len(CASES)} losses never wait{how}; {documented} may, as documented"
    wrong = sorted(set(waiting) - WAITING)
    return judged(not wrong, f"{text}{'; also waiting: ' + ', '.join(wrong) if wrong else ''}", waiting=waiting)


def _waits_on_gpu(case: Case, device: torch.device) -> bool:
    """Return whether CUDA's debug mode reports a wait."""
    draw = Draw(device, torch.float32)
    inputs = case.inputs(draw)
    torch.autograd.grad(case.loss(*inputs), draw.leaves)  # the first call loads kernels, and may wait
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.autograd.grad(case.loss(*inputs), draw.leaves)
    except RuntimeError as error:
        if WAIT_MESSAGE not in str(error):
            raise
        return True
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return False


def _reads_a_value(case: Case, device: torch.device) -> bool:
    """Return whether a loss of tensors that have a GPU and a shape, but no values, asks for a value."""
    with FakeTensorMode():
        inputs = case.inputs(Draw(torch.device("cuda"), torch.float32))
        try:
            case.loss(*inputs)
        except (DataDependentOutputException, DynamicOutputShapeException):
            return True
    return False


def check(part: Part, setup: Setup) -> None:
    """Run the part."""
    part.check("losses, forward and backward: the host does not wait", partial(check_losses, setup))
    for name in ("refilled", "protonet") if setup.small else METHODS.names():
        entry = METHODS.get(name).entry
        applies = entry.needs.learns != "experiences" and entry.needs.labels != "extended"
        if applies and entry.stages_for(entry.Settings()):
            part.check(f"steps of {name}: the host does not wait", partial(check_training, name, setup))


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in counts.most_common(8)) or "none"
