"""Where the time of a training step goes: ``python tools/profile_steps.py``.

The training loop itself runs under ``torch.profiler`` on one thread. Every operator's own seconds belong to one part:
that of the region around it (crops, loss, teacher, optimiser), else that of the operator. The backward pass of an
operator of the loss belongs to the loss. The shares sum to 100 %; ``other`` is what no rule matches.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

if TYPE_CHECKING:
    from torch.autograd.profiler_util import FunctionEvent

BACKBONES = ("conv4-16", "conv4-64", "resnet8", "wrn-16-2")
METHODS = ("ce", "kd", "rkd")
TEACHER = "conv4-64"

_RULES = [
    ("data crops", r"aten::index$"),
    ("optimiser", r"^Optimizer\."),
    ("convolutions, backward", r"convolution_backward|ConvolutionBackward"),
    ("convolutions, forward", r"conv"),
    ("batch norm", r"batch_norm|BatchNorm"),
    ("dropout and random draws", r"dropout|Dropout|bernoulli|random_|rand|normal_|uniform_"),
    ("activations", r"relu|Relu|threshold|clamp_min|hardtanh|silu|gelu"),
    ("pooling", r"pool|Pool|aten::mean|MeanBackward|aten::div|DivBackward"),
    ("linear head", r"linear|addmm|AddmmBackward|aten::mm|MmBackward|aten::t$|TBackward|transpose"),
    ("residual sums and gradient sums", r"aten::add|AddBackward|AccumulateGrad|aten::mul|MulBackward|aten::sum"),
    (
        "zero fill and copies",
        r"zero|fill|copy|clone|contiguous|aten::empty|aten::to$|_to_copy|aten::cat|CatBackward|aten::stack|StackBackward"
        r"|aten::detach|aten::new_|aten::resize|aten::pad|constant_pad|ConstantPad|resolve",
    ),
    (
        "views",
        r"view|View|reshape|Reshape|expand|Expand|permute|Permute|squeeze|as_strided|aten::select|Select|flatten|slice|Slice"
        r"|unbind|aten::split|aten::narrow|aten::alias",
    ),
]
"""Parts of operators outside the marked regions, by the first pattern that is found in the name."""

_REGION = "part: "
"""What the names of marked regions begin with."""

_STEPS = 5


@dataclasses.dataclass(frozen=True)
class Profile:
    """The parts of the steps of one network.

    Attributes:
        backbone: Network that is trained.
        method: Its method.
        seconds: Seconds of the operators of a step, by part. The profiler itself makes them longer.
        unmatched: Seconds of a step, by name of an operator, of the part ``other``.
    """

    backbone: str
    method: str
    seconds: dict[str, float]
    unmatched: dict[str, float]

    def shares(self) -> dict[str, float]:
        """Return the shares of the parts, which sum to 1."""
        total = sum(self.seconds.values())
        return {part: seconds / total for part, seconds in self.seconds.items()}


def profile(backbone: str, method: str, *, steps: int = _STEPS, batch: int = 64, dataset: str = "glyphs") -> Profile:
    """Profile training steps of a student, with a teacher of the quick preset if the method reads one.

    Args:
        backbone: Network that is trained.
        method: Method that trains it.
        steps: Profiled steps; as many run before.
        batch: Images of a batch.
        dataset: Data set that ships with the package.
    """
    import torch
    from torch.profiler import ProfilerActivity

    train = _training(backbone, method, batch, dataset)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _marked():
            train(steps)
            with torch.profiler.profile(activities=[ProfilerActivity.CPU]) as profiler:
                train(steps)
    finally:
        torch.set_num_threads(threads)
    seconds, unmatched = _by_part(list(profiler.events() or []))
    return Profile(
        backbone, method, {k: v / steps for k, v in seconds.items()}, {k: v / steps for k, v in unmatched.items()}
    )


def _training(backbone: str, method_name: str, batch: int, dataset: str) -> Callable[[int], object]:
    """Return a function that trains for some steps by the training loop."""
    import torch

    from benchmark.experiment.planning import make_plan
    from benchmark.experiment.request import Request
    from benchmark.methods import LabelSpaces
    from benchmark.system.progress import Silent
    from benchmark.training import TeacherStore, select_device
    from benchmark.training.factory import Factory
    from benchmark.training.frozen_teacher import FrozenTeacher
    from benchmark.training.loop import fit

    overrides = f"student.backbone={backbone}", f"teacher.backbone={TEACHER}", "protocol.images_per_class=0"
    plan = make_plan(Request("distill-same", method_name, dataset, overrides=overrides), Path())
    _, task = plan.protocol.tasks(plan.data, 0)
    device, spec = select_device("cpu"), plan.spec(0)
    factory = Factory(spec, TeacherStore(Path(os.devnull)), device, Silent())
    student, teacher = (factory.network(name, task, seed) for seed, name in enumerate((backbone, TEACHER)))
    teacher.eval().requires_grad_(False)
    method = factory.run_method(LabelSpaces(task.classes, task.classes), student, teacher, plan.data, 0)
    labels = torch.from_numpy(task.labels(task.train))
    method.prepare(student, labels, torch.randn(len(labels), teacher.backbone.dim))
    norm = factory.normalisation(plan.data, task.train)
    frozen = FrozenTeacher(teacher, norm, norm, device) if method.needs.teacher else None

    def train(steps: int) -> object:
        training = dataclasses.replace(spec.training, steps=steps, batch_size=batch)
        return fit(
            student, method, task, training, norm,
            teacher=frozen, seed=0, device=device, progress=Silent(), title="",
        )  # fmt: skip

    return train


@contextlib.contextmanager
def _marked() -> Iterator[None]:
    """Mark the regions of a step for the profiler: crops, the teacher, the loss and the optimiser."""
    import torch

    from benchmark.data.augmentation import ImageLoader
    from benchmark.methods import METHODS as REGISTRY
    from benchmark.training.frozen_teacher import FrozenTeacher
    from benchmark.training.term_log import TermLog

    losses = {REGISTRY.get(name).entry for name in METHODS}
    regions: list[tuple[Any, str, str]] = [
        (ImageLoader, "crop", "data crops"),
        (ImageLoader, "sample_crops", "data crops"),
        (FrozenTeacher, "__call__", "teacher's pass"),
        (torch.optim.SGD, "step", "optimiser"),
        (torch.optim.SGD, "zero_grad", "optimiser"),
        (TermLog, "add", "log and checks"),
        (TermLog, "end_step", "log and checks"),
        (TermLog, "end", "log and checks"),
        *((method, "loss", "loss") for method in losses),
    ]
    with contextlib.ExitStack() as stack:
        for owner, name, part in regions:
            stack.enter_context(mock.patch.object(owner, name, _in_region(getattr(owner, name), part)))
        yield


def _in_region(call: Callable[..., Any], part: str) -> Callable[..., Any]:
    import torch

    @functools.wraps(call)
    def wrapped(*args: Any, **named: Any) -> Any:
        with torch.profiler.record_function(_REGION + part):
            return call(*args, **named)

    return wrapped


def _by_part(events: Sequence[FunctionEvent]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the events' own seconds by part, and those of ``other`` by name."""
    of_loss = {event.sequence_nr for event in events if event.sequence_nr >= 0 and _region(event) == "loss"}
    seconds: dict[str, float] = {}
    unmatched: dict[str, float] = {}
    for event in events:
        own = event.self_cpu_time_total / 1e6
        part = _region(event) or ("loss" if _forward_number(event) in of_loss else _part(event))
        seconds[part] = seconds.get(part, 0.0) + own
        if part == "other":
            unmatched[event.name] = unmatched.get(event.name, 0.0) + own
    return seconds, unmatched


def _chain(event: FunctionEvent) -> Iterator[FunctionEvent]:
    """Yield the event and those around it, from the inside to the outside."""
    around: FunctionEvent | None = event
    while around is not None:
        yield around
        around = around.cpu_parent


def _region(event: FunctionEvent) -> str | None:
    names = (around.name for around in _chain(event))
    return next((name.removeprefix(_REGION) for name in names if name.startswith(_REGION)), None)


def _forward_number(event: FunctionEvent) -> int:
    """Return the number of the forward operator whose backward pass the event belongs to; -1 if there is none."""
    numbers = (e.sequence_nr for e in _chain(event) if e.name.startswith("autograd::engine::evaluate_function"))
    return next(numbers, -1)


def _part(event: FunctionEvent) -> str:
    """Return the part of an operator, else that of the operator around it."""
    for around in _chain(event):
        name = around.name.removeprefix("autograd::engine::evaluate_function: ")
        for part, pattern in _RULES:
            if re.search(pattern, name):
                return part
    return "other"


def markdown(profiles: Sequence[Profile]) -> str:
    """Return one table: a column for each network and method, a row for each part."""
    shares = [profile.shares() for profile in profiles]
    fixed = [part for part, _ in _RULES]
    parts = sorted({part for share in shares for part in share} - {"other"} - set(fixed))
    names = [f"{profile.backbone}, {profile.method}" for profile in profiles]
    lines = ["| part, % | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(names)]
    lines += [
        f"| {part} | " + " | ".join(f"{100 * share.get(part, 0):.1f}" for share in shares) + " |"
        for part in [*fixed, *parts, "other"]
        if any(part in share for share in shares)
    ]
    totals = [f"{1000 * sum(profile.seconds.values()):.1f}" for profile in profiles]
    lines.append("| operators of a step under the profiler, ms | " + " | ".join(totals) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Profile and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=BACKBONES)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--steps", type=int, default=_STEPS)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--dataset", default="glyphs")
    parser.add_argument("--out", type=Path, help="file of the table")
    o = parser.parse_args(arguments)
    profiles = [
        profile(backbone, method, steps=o.steps, batch=o.batch, dataset=o.dataset)
        for backbone in o.backbones
        for method in o.methods
    ]
    table = markdown(profiles)
    if o.out:
        o.out.write_text(table, encoding="utf-8")
    sys.stdout.write(table)


if __name__ == "__main__":
    main()
