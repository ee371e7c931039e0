"""Checks of every registered backbone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.backbones import BACKBONES
from benchmark.backbones.network import Backbone, build_network
from benchmark.checks import candidate, failure_of, suite_of
from benchmark.errors import InputError

CHECKS = suite_of("backbone").checks


NAMES = (
    "conv4-16", "resnet12", "resnet20", "resnet110", "resnet8x4", "resnet8-signed",
    "wrn-16-1", "wrn-16-1-rd", "mobilenetv1-x0.25", "vgg8",
)  # fmt: skip
"""The smallest network of each registration, and the deepest of all."""


def test_every_registration_has_a_name_that_is_checked() -> None:
    registered = {id(BACKBONES.get(name).entry) for name in BACKBONES.names()}
    assert registered == {id(BACKBONES.get(name).entry) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_backbone_passes_every_check(tmp_path: Path, name: str) -> None:
    with candidate(name, "backbone", tmp_path) as backbone:
        failures = {check.name: failure_of(check, backbone) for check in CHECKS.values()}
    assert failures == dict.fromkeys(CHECKS)


@pytest.mark.parametrize("name", NAMES)
def test_backbone_takes_small_images_and_has_three_stages(name: str) -> None:
    for channels, size in ((1, 32), (3, 16)):
        outputs = build_network(name, channels=channels, size=size, classes=7, seed=3)(
            torch.randn(2, channels, size, size)
        )
        assert list(outputs.stages)[:3] == ["stage1", "stage2", "stage3"]
        assert torch.equal(outputs.tap("stage2"), outputs.stages["stage2"])
        with pytest.raises(KeyError, match="stage1"):
            outputs.tap("stage99")


class Plain(Backbone):
    """Two convolutions."""

    def __init__(self, *, channels: int, size: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(channels, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)
        self.dim = 6

    def forward(self, images: torch.Tensor) -> Any:
        one = torch.relu(self.first(images))
        two = self.second(one)
        return {"stage1": one, "stage2": two}, two.mean((2, 3))


class Undocumented(Plain):
    """Without a full stop"""


class Grey(Plain):
    def __init__(self, *, channels: int, size: int) -> None:
        if channels != 1:
            raise InputError("grey images only")
        super().__init__(channels=channels, size=size)


class Long(Plain):
    def __init__(self, *, channels: int, size: int) -> None:
        super().__init__(channels=channels, size=size)
        self.dim = 7


class Unstaged(Plain):
    def forward(self, images: torch.Tensor) -> Any:
        return {}, super().forward(images)[1]


class Idle(Plain):
    def __init__(self, *, channels: int, size: int) -> None:
        super().__init__(channels=channels, size=size)
        self.third = nn.Linear(2, 2)


class Reseeding(Plain):
    def __init__(self, *, channels: int, size: int) -> None:
        torch.manual_seed(1)
        super().__init__(channels=channels, size=size)


class Rolling(Plain):
    def __init__(self, *, channels: int, size: int) -> None:
        super().__init__(channels=channels, size=size)
        np.random.random()


class Mixing(Plain):
    def forward(self, images: torch.Tensor) -> Any:
        stages, embedding = super().forward(images)
        return stages, embedding - embedding.mean(0)


class Forgetful(Plain):
    def __init__(self, *, channels: int, size: int) -> None:
        super().__init__(channels=channels, size=size)
        self.scale = float(torch.rand(()))

    def forward(self, images: torch.Tensor) -> Any:
        stages, embedding = super().forward(images)
        return stages, self.scale * embedding


class Meeting(Plain):
    def forward(self, images: torch.Tensor) -> Any:
        stages, embedding = super().forward(images)
        return stages, torch.softmax(embedding, 1)


@pytest.mark.parametrize(
    ("entry", "check", "reason"),
    [
        (Undocumented, "is_documented", "full stop"),
        (Grey, "builds_for_grey_and_colour", "images of 3 channels in none .* grey images only"),
        (dict, "builds_for_grey_and_colour", "which is not a Backbone|has no attribute"),
        (Long, "outputs_have_declared_shapes", "mat1 and mat2|its dim is 7"),
        (Unstaged, "outputs_have_declared_shapes", "returns no stage"),
        (Idle, "gradients_reach_all_parameters", r"no gradient reaches backbone\.third\.weight"),
        (Reseeding, "weights_follow_seed", "seeds torch's|same weights"),
        (Rolling, "weights_follow_seed", "NumPy's global generator"),
        (Mixing, "evaluates_images_independently", "depends on the others of its batch"),
        (Forgetful, "state_round_trips", "values that its state does not hold"),
        (Meeting, "works_grouped", "mixes channels"),
    ],
)
def test_backbone_that_breaks_a_check_fails_it(tmp_path: Path, entry: Any, check: str, reason: str) -> None:
    with BACKBONES.override("odd", entry), candidate("odd", "backbone", tmp_path) as backbone:
        failure = failure_of(CHECKS[check], backbone)
    assert re.search(reason, str(failure)), failure


def test_plain_backbone_passes_every_check(tmp_path: Path) -> None:
    with BACKBONES.override("odd", Plain), candidate("odd", "backbone", tmp_path) as backbone:
        assert [failure for check in CHECKS.values() if (failure := failure_of(check, backbone))] == []


@pytest.mark.parametrize(("width", "channels", "parameters"), [(64, 3, 112_832), (64, 1, 111_680), (16, 1, 7_184)])
def test_conv4_has_the_published_number_of_parameters(width: int, channels: int, parameters: int) -> None:
    """113,088 for Conv4-64 in the literature, minus 4 x 64 biases that batch norm makes useless."""
    network = build_network(f"conv4-{width}", channels=channels, size=32, classes=2, seed=0)
    assert sum(p.numel() for p in network.backbone.parameters()) == parameters


def test_conv4_pooling_before_relu_gives_the_same_result() -> None:
    network = build_network("conv4-16", channels=1, size=32, classes=2, seed=0).eval()
    x = images = torch.randn(3, 1, 32, 32)
    for convolution, norm, _, _ in network.backbone.blocks:  # type: ignore[misc, union-attr]
        x = torch.nn.functional.max_pool2d(torch.relu(norm(convolution(x))), 2)
    assert torch.allclose(network.embed(images), x.flatten(1), atol=1e-6)


@pytest.mark.parametrize("name", ["conv4-0", "conv4-16"])
def test_conv4_refuses_impossible_sizes(name: str) -> None:
    with pytest.raises(InputError, match="16 x 16"):
        build_network(name, channels=1, size=16 if name == "conv4-0" else 8, classes=2, seed=0)
