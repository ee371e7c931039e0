from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.backbones.network import build_network
from benchmark.experiment.planning import Plan, make_plan
from benchmark.experiment.request import Request
from benchmark.training import Trainer, profiling, select_device
from benchmark.training.profiling import network_cost, profile_steps

DEVICE = select_device("cpu", "float32")


def test_flops_are_those_of_the_convolutions_and_the_head() -> None:
    network = build_network("conv4-16", channels=3, size=16, classes=10, seed=0)
    cost = network_cost(network, 3, 16, DEVICE)
    convolutions = sum(2 * 9 * before * 16 * side**2 for before, side in ((3, 16), (16, 8), (16, 4), (16, 2)))
    assert cost.forward_flops == convolutions + 2 * network.backbone.dim * 10
    assert cost.parameters == sum(p.numel() for p in network.parameters())


def test_flops_of_depthwise_convolutions() -> None:
    """A depthwise group has one channel: 569 million multiplications and additions at 224 (arXiv 1704.04861)."""
    network = build_network("mobilenetv1-x1", channels=3, size=224, classes=1000, seed=0)
    assert network_cost(network, 3, 224, DEVICE).forward_flops == pytest.approx(2 * 569e6, rel=0.01)


def test_activations_are_what_the_backward_pass_keeps() -> None:
    """The inputs of convolutions and of the linear layer, and what ReLU and batch norm keep."""
    network = build_network("conv4-16", channels=3, size=16, classes=10, seed=0)
    kept = network_cost(network, 3, 16, DEVICE).activation_bytes
    maps = [16 * side**2 for side in (16, 8, 4, 2)]
    # by block: input of the convolution, of batch norm, and what pooling and ReLU keep of maps a quarter as large
    least = 4 * (3 * 16**2 + sum(maps) + sum(size // 4 for size in maps))
    assert least <= kept <= 4 * least


def test_network_cost_leaves_the_network_unchanged() -> None:
    network = build_network("resnet8", channels=3, size=16, classes=5, seed=0).eval()
    network.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network_cost(network, 3, 16, DEVICE)
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def made(root: Path, *overrides: str, protocol: str = "distill-same", method: str = "refilled") -> Plan:
    return make_plan(Request(protocol, method, "tiny", overrides=("training.batch_size=8", *overrides)), root)


@pytest.mark.parametrize("protocol", ["distill-same", "incremental-1step-5exemplars", "middleshot-5way1shot"])
def test_profile_steps_evaluates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    def judged(*_: Any, **__: Any) -> Any:
        raise AssertionError("profiling embeds or evaluates images")

    monkeypatch.setattr("benchmark.training.factory.embed", judged)
    monkeypatch.setattr("benchmark.training.inference._forward_all", judged)
    plan = made(tmp_path, protocol=protocol)
    found = profile_steps(plan.spec(0), DEVICE, lambda brief: plan.protocol.train_briefly(plan.data, brief))
    assert found.teacher_step > 0
    assert found.student_step > 0
    assert not list(tmp_path.rglob("*.json"))


def test_step_times_leave_out_the_cost_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = made(tmp_path)
    spent = {1: (50.0, 60.0), 2: (10.0, 20.0), 8: (10.6, 21.2)}
    rounds = []

    def make(trainer: Trainer) -> tuple[Any, Any]:
        teacher, student = plan.protocol.train_briefly(plan.data, trainer)
        steps = student.metadata["steps"]
        rounds.append(steps)
        teacher.metadata["seconds"], student.metadata["loop_seconds"] = spent[steps]
        return teacher, student

    monkeypatch.setattr(profiling, "_SLOW", math.inf)
    found = profile_steps(plan.spec(0), DEVICE, make)
    assert (found.teacher_step, found.student_step) == pytest.approx((0.1, 0.2))
    assert rounds == [1, 2, 8]
    monkeypatch.setattr(profiling, "_SLOW", 1.0)
    spent[1] = (5.0, 8.0)
    slow = profile_steps(plan.spec(0), DEVICE, make)
    assert (slow.teacher_step, slow.student_step) == pytest.approx((5.0, 12.0))
    assert rounds == [1, 2, 8, 1, 2]
