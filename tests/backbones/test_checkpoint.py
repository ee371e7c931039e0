from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from benchmark.backbones import PRETRAINED
from benchmark.backbones.network import build_network
from benchmark.backbones.pretrained import Pretrained
from benchmark.errors import InputError
from benchmark.training import TeacherStore

FACTS = {
    "recipe": {"backbone": "conv4-16"},
    "classes": ["a", "b", "c"],
    "input": {"data": "f" * 64, "size": 16, "channels": 1, "mean": [0.4], "std": [0.3]},
    "accuracy": 0.5,
}


def open_teacher(path: Path) -> Pretrained:
    match = PRETRAINED.get(str(path))
    return match.entry(**match.fields)


def test_teacher_is_opened_from_its_weights_file(tmp_path: Path) -> None:
    network = build_network("conv4-16", channels=1, size=16, classes=3, seed=4)
    TeacherStore(tmp_path).get("key", network, lambda: FACTS)
    moved = (tmp_path / "key" / "weights.safetensors").rename(tmp_path / "my teacher.safetensors")
    teacher = open_teacher(moved)
    assert teacher.name == f"conv4-16@{teacher.sha256[:8]}"
    assert (teacher.weights, teacher.size, teacher.mean, teacher.std) == ("my teacher.safetensors", 16, (0.4,), (0.3,))
    assert teacher.knows.fingerprint == "f" * 64
    assert teacher.knows.classes == ("a", "b", "c")
    images = torch.rand(2, 1, 16, 16)
    logits = teacher.network().eval()(images).logits
    assert torch.allclose(logits, network.eval()((images - 0.4) / 0.3).logits, atol=1e-5)


def test_file_that_does_not_name_its_network_is_refused(tmp_path: Path) -> None:
    network = build_network("conv4-16", channels=1, size=16, classes=3, seed=4)
    plain = tmp_path / "plain.safetensors"
    tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
    safetensors.torch.save_file(tensors, plain)
    with pytest.raises(InputError, match=r"does not say which network .*timm:resnet50@.*plain\.safetensors"):
        open_teacher(plain)
    safetensors.torch.save_file(tensors, plain, metadata={"benchmark": "[1]"})
    with pytest.raises(InputError, match="does not say which network"):
        open_teacher(plain)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    network = build_network("conv4-32", channels=1, size=16, classes=3, seed=4)
    TeacherStore(tmp_path).get("key", network, lambda: FACTS)
    teacher = open_teacher(tmp_path / "key" / "weights.safetensors")
    with pytest.raises(InputError, match=r"weights\.safetensors does not hold the weights of conv4-16"):
        teacher.network()
