"""Every family: parameters, stages, initial weights and the details of its source."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from benchmark.backbones.network import Network, build_network
from benchmark.checks.toy import shapes
from benchmark.errors import InputError
from benchmark.methods import METHODS, Batch, LabelSpaces

SMALLEST = ("conv4-16", "resnet12", "resnet8", "resnet8x4", "wrn-10-1", "wrn-10-1-rd", "mobilenetv1-x0.25", "vgg8")


def build(name: str, classes: int = 4, size: int = 32) -> Network:
    return build_network(name, channels=3, size=size, classes=classes, seed=0)


@pytest.mark.parametrize(
    ("name", "classes", "millions", "parameters"),
    [
        # RepDistiller's networks on CIFAR-100, as its users' tables print them
        ("resnet20", 100, "0.28", 278_324),
        ("resnet32", 100, "0.47", 472_756),
        ("resnet56", 100, "0.86", 861_620),
        ("resnet110", 100, "1.74", 1_736_564),
        ("resnet8x4", 100, "1.23", 1_233_540),
        ("resnet32x4", 100, "7.43", 7_433_860),
        ("wrn-16-2-rd", 100, "0.70", 703_284),
        ("wrn-40-1-rd", 100, "0.57", 569_780),
        ("wrn-40-2-rd", 100, "2.26", 2_255_156),
        ("vgg8", 100, "3.97", 3_965_028),
        ("vgg13", 100, "9.46", 9_462_180),
        # one decimal in attention transfer's table (arXiv 1612.03928)
        ("wrn-16-1-rd", 10, "0.2", 175_066),
        # on ImageNet, table 6 of the paper; the exact numbers are the trainable ones of Keras
        ("mobilenetv1-x1", 1000, "4.2", 4_231_976),
        ("mobilenetv1-x0.75", 1000, "2.6", 2_585_560),
        ("mobilenetv1-x0.5", 1000, "1.3", 1_331_592),
        ("mobilenetv1-x0.25", 1000, "0.5", 470_072),
    ],
)
def test_parameter_count_is_the_published_one(name: str, classes: int, millions: str, parameters: int) -> None:
    count = build(name, classes).parameter_count
    assert count == parameters
    assert f"{count / 1e6:.{len(millions) - 2}f}" == millions


def test_resnet12_backbone_has_the_published_parameter_count() -> None:
    """12.4 million without a head, as the few-shot literature counts."""
    assert sum(p.numel() for p in build("resnet12").backbone.parameters()) == 12_424_320


@pytest.mark.parametrize(("depth", "width"), [(16, 1), (16, 2), (40, 2)])
def test_wide_resnet_families_differ_by_their_biases(depth: int, width: int) -> None:
    refilled, repdistiller = (build(f"wrn-{depth}-{width}{family}") for family in ("", "-rd"))
    groups, blocks = [16 * width, 32 * width, 64 * width], (depth - 4) // 6
    shortcuts = sum(groups[1:]) + (groups[0] if width > 1 else 0)
    biases = 16 + sum(2 * blocks * channels for channels in groups) + shortcuts
    assert refilled.parameter_count - repdistiller.parameter_count == biases


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("resnet12", 84, [(64, 42), (160, 21), (320, 10), (640, 5)]),
        ("resnet8", 32, [(16, 32), (32, 16), (64, 8)]),
        ("resnet8x4", 32, [(64, 32), (128, 16), (256, 8)]),
        ("wrn-10-2", 32, [(32, 32), (64, 16), (128, 8)]),
        ("wrn-10-2-rd", 32, [(32, 32), (64, 16), (128, 8)]),
        ("mobilenetv1-x0.25", 64, [(16, 32), (32, 16), (64, 8), (128, 4), (256, 2)]),
        ("vgg8", 32, [(128, 16), (256, 8), (512, 4), (512, 4)]),
    ],
)
def test_stages_are_the_published_taps(name: str, size: int, expected: list[tuple[int, int]]) -> None:
    network = build(name, size=size).eval()
    outputs = network(torch.randn(2, 3, size, size))
    assert list(outputs.stages) == [f"stage{i + 1}" for i in range(len(expected))]
    assert [tuple(map_.shape[1:]) for map_ in outputs.stages.values()] == [(c, s, s) for c, s in expected]
    assert network.backbone.dim == expected[-1][0]


@pytest.mark.parametrize("name", [name for name in SMALLEST if name not in ("conv4-16", "wrn-10-1", "wrn-10-1-rd")])
def test_embedding_is_the_mean_of_the_last_stage(name: str) -> None:
    with torch.no_grad():
        outputs = build(name).eval()(torch.randn(2, 3, 32, 32))
    *_, last = outputs.stages.values()
    expected = [[float(channel.mean()) for channel in image] for image in last]
    assert torch.allclose(outputs.embedding, torch.tensor(expected), atol=1e-5)


@pytest.mark.parametrize("name", ["wrn-10-1", "wrn-10-1-rd"])
def test_wide_resnet_embedding_has_batch_norm_and_relu(name: str) -> None:
    outputs = build(name).eval()(torch.randn(2, 3, 32, 32))
    # at the start: mean 0, variance 1
    expected = torch.relu(outputs.stages["stage3"] / math.sqrt(1 + 1e-5)).mean((2, 3))
    assert torch.allclose(outputs.embedding, expected, atol=1e-5)


@pytest.mark.parametrize(("name", "refilled"), [("wrn-16-2", True), ("wrn-16-2-rd", False)])
def test_wide_resnet_families_differ_like_their_sources(name: str, refilled: bool) -> None:
    modules = list(build(name).eval().backbone.modules())
    assert {m.bias is not None for m in modules if isinstance(m, nn.Conv2d)} == {refilled}
    assert [m.p for m in modules if isinstance(m, nn.Dropout)] == ([0.3] * 6 if refilled else [])
    assert [m.momentum for m in modules if isinstance(m, nn.BatchNorm2d)][-1] == (0.9 if refilled else 0.1)
    halving = [m for m in modules if hasattr(m, "conv1") and m.conv1.in_channels < m.conv2.in_channels]
    assert [(m.conv1.stride[0], m.conv2.stride[0]) for m in halving] == [
        (1, 1), *([(1, 2)] * 2 if refilled else [(2, 1)] * 2)
    ]  # fmt: skip
    for block in halving:
        # the shortcut alone is left, and of a negative input nothing where ReLU comes before it
        nn.init.zeros_(block.conv2.weight)
        assert bool(block(-torch.ones(1, block.conv1.in_channels, 8, 8)).any()) == refilled


@pytest.mark.parametrize(
    ("name", "method"),
    [
        *((name, method) for name in SMALLEST for method in ("fitnet", "refilled")),
        *(("conv4-16", method) for method in ("at", "sp", "rkd")),
    ],
)
def test_method_trains_every_backbone_parameter(name: str, method: str) -> None:
    student, teacher = build(name, size=16), build(name, size=16)
    teacher.eval().requires_grad_(False)
    images, labels = torch.randn(16, 3, 16, 16), torch.arange(4).repeat(4)
    entry = METHODS.get(method).entry
    both = [shapes(network.eval(), images) for network in (student, teacher)]
    built = entry(entry.Settings(), LabelSpaces((0, 1, 2, 3), (4, 5, 6, 7)), *both)
    built.prepare(student, labels, teacher.embed(images) if built.reads_train_embeddings else None)
    # the bias of a convolution has no gradient where batch norm follows
    biases = {id(m.bias) for m in student.backbone.modules() if isinstance(m, nn.Conv2d)}
    trained = [p for p in student.backbone.parameters() if id(p) not in biases]
    before = [p.detach().clone() for p in trained]
    optimiser = torch.optim.SGD(student.parameters(), lr=0.01)
    student.train()
    for stage in built.stages():
        batch = Batch(labels, torch.arange(16), stage.name, 0.0)
        terms = built.loss(batch, student(images), teacher(images * 0.9))
        assert all(bool(torch.isfinite(term)) for term in terms.values())
        optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()
    assert not any(torch.equal(p, old) for p, old in zip(trained, before, strict=True))


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("resnet18", 32, r"6 n \+ 2 layers, not 18; .* timm:resnet18"),
        ("resnet2", 32, r"6 n \+ 2"),
        ("wrn-15-2", 32, r"6 n \+ 4 layers"),
        ("wrn-16-0", 32, "width of at least 1"),
        ("wrn-4-1-rd", 32, r"6 n \+ 4"),
        ("vgg16", 32, "use vgg8 or vgg13"),
        ("vgg8", 7, "at least 8 x 8, got 7 x 7"),
        ("resnet12", 15, "at least 16 x 16"),
        ("mobilenetv1-x0.01", 32, "no channel left"),
    ],
)
def test_impossible_networks_are_refused(name: str, size: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(name, size=size)
