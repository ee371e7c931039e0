"""A step of a small network, launched kernel by kernel and captured as a CUDA graph. It is only measured here."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmark.backbones.network import build_network
from benchmark.losses import ce_loss
from gpu_parts.report import NEEDS_CUDA, Finding, Part, Setup, judged, measured

BATCH, CLASSES, SIDE = 64, 20, 32


class PlainStep:
    """A step by cross-entropy on a batch that stays where it is: what a graph can hold."""

    def __init__(self, backbone: str, device: torch.device) -> None:
        self.network = build_network(backbone, channels=1, size=SIDE, classes=CLASSES, seed=0).to(device).train()
        generator = torch.Generator().manual_seed(1)
        pixels = torch.randn(BATCH, 1, SIDE, SIDE, generator=generator).to(device)
        self.pixels = pixels.contiguous(memory_format=torch.channels_last)
        self.labels = (torch.arange(BATCH) % CLASSES).to(device)
        self.optimiser = torch.optim.SGD(self.network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def __call__(self) -> Tensor:
        """Take a step and return the loss."""
        self.optimiser.zero_grad(set_to_none=True)
        loss = ce_loss(self.network(self.pixels).logits, self.labels)
        loss.backward()
        self.optimiser.step()
        return loss


def milliseconds(step: Callable[[], object], rounds: int, device: torch.device) -> float:
    """Return the median of three means over some steps, from a device that has nothing to do to one that has done."""
    means = []
    for _ in range(3):
        _wait(device)
        started = time.perf_counter()
        for _ in range(rounds):
            step()
        _wait(device)
        means.append(1000 * (time.perf_counter() - started) / rounds)
    return statistics.median(means)


def captured(step: PlainStep) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """Capture a step, after three that warm up on another stream; return the graph and the loss it writes."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    step.optimiser.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()
    return graph, loss


def compare(backbone: str, setup: Setup) -> Finding:
    """Measure a step both ways, and check that both train alike."""
    device = setup.device.torch
    plain, replayed = PlainStep(backbone, device), PlainStep(backbone, device)
    graph, loss = captured(replayed)
    expected = torch.zeros(())
    for _ in range(8):
        expected = plain()  # as many steps as the graph's: three to warm up, five to replay
    for _ in range(5):
        graph.replay()
    apart = abs(float(loss.detach()) / float(expected.detach()) - 1)
    eager, replay = (milliseconds(step, 50, device) for step in (plain, graph.replay))
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        for _ in range(5):
            plain()
        torch.cuda.synchronize()
    launches = sum(event.count for event in profiler.key_averages() if "LaunchKernel" in event.key) / 5
    text = f"eager {eager:.2f} ms, captured {replay:.2f} ms: {eager / replay:.1f} times as fast; "
    text += f"{launches:.0f} launches a step; losses differ by {apart:.1e} (bound 1e-03)"
    return judged(apart <= 1e-3, text, eager_ms=eager, captured_ms=replay, launches=launches, difference=apart)


def eager_only(backbone: str, setup: Setup) -> Finding:
    """Measure an eager step on a CPU, where nothing is launched."""
    step = PlainStep(backbone, setup.device.torch)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    operators = sum(event.count for event in profiler.key_averages() if event.key.startswith("aten::"))
    eager = milliseconds(step, 3, setup.device.torch)
    return measured(f"eager {eager:.2f} ms, {operators} operators a step", eager_ms=eager, operators=operators)


def check(part: Part, setup: Setup) -> None:
    """Run the part."""
    for backbone in ("conv4-16",) if setup.small else ("conv4-16", "resnet8", "resnet8x4"):
        what = f"step of {backbone} by ce, batch {BATCH}"
        if setup.on_gpu:
            part.check(f"{what}: eager and captured", partial(compare, backbone, setup), needs=5)
        else:
            part.check(f"{what}: eager", partial(eager_only, backbone, setup))
            part.check(f"{what}: captured", lambda: NEEDS_CUDA)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
