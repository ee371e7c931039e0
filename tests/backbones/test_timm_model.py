from __future__ import annotations

import re
import socket
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from benchmark.backbones import BACKBONES, PRETRAINED
from benchmark.backbones.network import build_network
from benchmark.errors import InputError

timm = pytest.importorskip("timm", reason="timm is not installed (extra `timm`)")

MODELS = ("resnet10t", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("channels", [1, 3])
def test_timm_backbone_passes_the_checks(name: str, channels: int) -> None:
    network = build_network(f"timm:{name}", channels=channels, size=32, classes=7, seed=3)
    outputs = network(torch.randn(4, channels, 32, 32))
    assert outputs.logits.shape == (4, 7)
    assert outputs.embedding.shape == (4, network.backbone.dim)
    assert len(outputs.stages) >= 3
    assert all(map_.shape[0] == 4 and map_.ndim == 4 for map_ in outputs.stages.values())
    outputs.logits.sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    again = build_network(f"timm:{name}", channels=channels, size=32, classes=7, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(("name", "classes"), [("resnet10t", 11), ("mobilenetv3_small_050", 5), ("convnext_atto", 3)])
def test_timm_teacher_computes_what_timm_computes(tmp_path: Path, name: str, classes: int) -> None:
    torch.manual_seed(1)
    model = timm.create_model(name, num_classes=classes)
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "weights.safetensors")
    match = PRETRAINED.get(f"timm:{name}@{tmp_path}/weights.safetensors")
    teacher = match.entry(**match.fields)
    assert re.fullmatch(rf"timm:{name}@[0-9a-f]{{8}}", teacher.name)
    config = timm.get_pretrained_cfg(name)
    assert (teacher.size, teacher.mean, teacher.std) == (config.input_size[1], config.mean, config.std)
    network = teacher.network().eval()
    size = teacher.size
    images = torch.rand(2, 3, size, size)
    mean, std = (torch.tensor(x)[:, None, None] for x in (config.mean, config.std))
    with torch.no_grad():
        expected = model.eval()((images - mean) / std)
        assert torch.allclose(network(images).logits, expected, atol=1e-4 * float(expected.abs().max()))
    assert network.head.out_features == classes
    assert network.parameter_count == sum(p.numel() for p in model.parameters())


def test_vision_transformer_accepts_another_size(tmp_path: Path) -> None:
    model = timm.create_model("vit_tiny_patch16_224", num_classes=4, img_size=64)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "vit.safetensors")
    match = PRETRAINED.get(f"timm:vit_tiny_patch16_224@{tmp_path}/vit.safetensors")
    network = match.entry(**match.fields).load(64)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(network.eval()(images).logits, model.eval()(images), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet10x", "timm has no model 'resnet10x'; did you mean 'resnet10t'"),
        ("resnet18.no_such_tag", r"timm:resnet18\.no_such_tag: Invalid pretrained tag"),
        ("hf-hub:timm/resnet18.a1_in1k", "timm has no model 'hf-hub:timm"),
        ("inception_v3", "timm:inception_v3 does not work on images of 32 x 32: "),
        ("vit_tiny_patch16_224", "timm:vit_tiny_patch16_224 .* images of 8 x 8: "),
    ],
)
def test_impossible_timm_models_are_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build_network(f"timm:{name}", channels=3, size=8 if "8 x 8" in message else 32, classes=2, seed=0)
    assert "\n" not in str(caught.value)


def test_weights_of_another_timm_model_are_refused(tmp_path: Path) -> None:
    safetensors.torch.save_file({"fc.weight": torch.zeros(2, 512)}, tmp_path / "half.safetensors")
    match = PRETRAINED.get(f"timm:resnet10t@{tmp_path}/half.safetensors")
    with pytest.raises(InputError, match="does not hold the weights of timm:resnet10t"):
        match.entry(**match.fields).network()
    safetensors.torch.save_file({"head.weight": torch.zeros(2, 512)}, tmp_path / "half.safetensors")
    with pytest.raises(InputError, match="holds no classifier 'fc' of timm:resnet10t"):
        match.entry(**match.fields).network()


def test_timm_teacher_refuses_a_head_that_is_not_linear(tmp_path: Path) -> None:
    model = timm.create_model("dla46_c", num_classes=3)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "dla.safetensors")
    match = PRETRAINED.get(f"timm:dla46_c@{tmp_path}/dla.safetensors")
    with pytest.raises(InputError, match="timm:dla46_c has a head that is not one linear layer"):
        match.entry(**match.fields).network()


def test_missing_timm_is_one_line_of_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    match = BACKBONES.get("timm:resnet18")
    with pytest.raises(InputError, match=r'timm:resnet18 needs .* pip install "\.\[timm\]"'):
        match.entry(channels=3, size=32, **match.fields)
