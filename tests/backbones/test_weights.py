from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.backbones import PRETRAINED
from benchmark.backbones.network import Network, build_network
from benchmark.backbones.pretrained import Pretrained
from benchmark.backbones.weights import WeightsFile
from benchmark.errors import InputError
from benchmark.training import TeacherStore


def network() -> Network:
    return build_network("conv4-16", channels=3, size=16, classes=5, seed=1)


WEIGHTS = {name: value.contiguous() for name, value in network().state_dict().items()}


def prefixed(prefix: str) -> dict[str, Any]:
    return {prefix + name: value for name, value in WEIGHTS.items()}


class Recipe:
    """An object that only its author's code knows."""


FORMS: dict[str, Callable[[], Any]] = {
    "plain": lambda: WEIGHTS,
    "module": lambda: prefixed("module."),
    "compiled within module": lambda: prefixed("module._orig_mod."),
    "any wrapper": lambda: prefixed("student.net."),
    "nested": lambda: {"state_dict": WEIGHTS, "epoch": 90, "best": torch.tensor(0.9)},
    "nested deeper": lambda: {"run": {"model": prefixed("module."), "step": 1}},
    "with optimiser": lambda: {
        "net": WEIGHTS,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3), "step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1}]},
    },
    "with a copy": lambda: {"state_dict_ema": prefixed("module."), "state_dict": WEIGHTS},
    "averaged": lambda: {"n_averaged": torch.tensor(3), **prefixed("module.")},
    "with settings": lambda: {"state_dict": WEIGHTS, "args": argparse.Namespace(lr=0.1), "recipe": Recipe()},
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_state_dicts_are_read_as_they_are_found(tmp_path: Path, form: str, legacy: bool) -> None:
    if form == "with settings" and legacy:
        pytest.skip("the old format does not list its objects")
    path = tmp_path / "w.pth.tar"
    torch.save(FORMS[form](), path, _use_new_zipfile_serialization=not legacy)
    file = WeightsFile.at(str(path))
    safetensors.torch.save_file(WEIGHTS, tmp_path / "w.safetensors", metadata={"seconds": "3"})
    assert file.sha256 == WeightsFile.at(str(tmp_path / "w.safetensors")).sha256
    loaded = network()
    torch.nn.init.zeros_(loaded.head.weight)
    file.fill(loaded, file.tensors(), "conv4-16")
    assert all(torch.equal(value, WEIGHTS[name]) for name, value in loaded.state_dict().items())


def test_identity_is_the_weights_alone(tmp_path: Path) -> None:
    facts: dict[str, Any] = {
        "recipe": {"backbone": "conv4-16"}, "classes": list("abcde"),
        "input": {"data": "f" * 64, "size": 16, "channels": 3, "mean": [0.4] * 3, "std": [0.2] * 3},
    }  # fmt: skip

    def saved(name: str, seconds: float) -> Pretrained:
        TeacherStore(tmp_path).get(name, network(), lambda: {**facts, "seconds": seconds})
        match = PRETRAINED.get(str(tmp_path / name / "weights.safetensors"))
        return match.entry(**match.fields)

    quick, slow = saved("quick", 1.5), saved("slow", 99.25)
    assert (quick.name, quick.config()) == (slow.name, slow.config())
    changed = {**WEIGHTS, "head.bias": WEIGHTS["head.bias"] + 1}
    safetensors.torch.save_file(changed, tmp_path / "changed.safetensors")
    assert WeightsFile.at(str(tmp_path / "changed.safetensors")).sha256 != quick.sha256
    assert WeightsFile.at(os.path.relpath(tmp_path / "changed.safetensors")).sha256 != quick.sha256


class Attack:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch attacked",)


def huge() -> bytes:
    buffer = io.BytesIO()
    torch.save({"a.b": torch.zeros(1).expand(1 << 40)}, buffer)
    return buffer.getvalue()


def bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10_000_000))
    return buffer.getvalue()


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.pth", b"", "x.pth is not a file that torch.save wrote, or damaged"),
        ("x.pt", b"not weights", "x.pt is not a file that torch.save wrote"),
        ("x.pth", saved(WEIGHTS)[:-5000], "x.pth is not a file that torch.save wrote, or damaged"),
        ("x.bin", saved({"epoch": 3}), "x.bin holds no state dict; write that of the model"),
        ("x.pth", pickle.dumps(Attack()), "x.pth is not a file that torch.save wrote"),
        ("x.pth", saved({"a": Attack()}), "x.pth is not a file that torch.save wrote"),
        ("x.ckpt", huge(), "x.ckpt holds tensors that are larger than the file"),
        ("x.pth", bomb(), "x.pth unpacks to much more than its size"),
        ("x.pth", saved({"a.b": torch.zeros(2, 2).to_sparse()}), "tensors that are not dense"),
        ("x.safetensors", b"", "x.safetensors is not a safetensors file"),
        ("x.safetensors", b"not weights at all", "x.safetensors is not a safetensors file"),
        ("x.safetensors", safetensors.torch.save(WEIGHTS)[:-10], "x.safetensors is not a safetensors file"),
    ],
)
def test_unusable_files_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        PRETRAINED.get(name).entry(path=name)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "attacked").exists()


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read the weights .*none.pth \(No such file"):
        WeightsFile.at(str(tmp_path / "none.pth"))
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(InputError, match=r"cannot read the weights .*folder.pth \(not a file"):
        WeightsFile.at(str(tmp_path / "folder.pth"))
    os.mkfifo(tmp_path / "fifo.pth")
    with pytest.raises(InputError, match=r"cannot read the weights .*fifo.pth \(not a file"):
        WeightsFile.at(str(tmp_path / "fifo.pth"))


def test_file_of_torch_save_does_not_name_its_network(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "w.pth")
    match = PRETRAINED.get(str(tmp_path / "w.pth"))
    with pytest.raises(InputError, match=r"w.pth is a file of torch.save and does not say .* timm:resnet50@"):
        match.entry(**match.fields)


def test_several_networks_in_a_file_are_named_with_a_command_that_works(tmp_path: Path) -> None:
    torch.save({"teacher": WEIGHTS, "student": WEIGHTS}, tmp_path / "two.pth")
    with pytest.raises(InputError, match=r"holds several networks \(teacher, student\)") as caught:
        WeightsFile.at(str(tmp_path / "two.pth"))
    command = str(caught.value).partition(": python ")[2]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(f"python {command}", shell=True, check=True, cwd=tmp_path, env=environment)
    torch.save(WEIGHTS, tmp_path / "one.pth")
    files = (WeightsFile.at(str(tmp_path / name)) for name in ("teacher.safetensors", "one.pth"))
    assert len({file.sha256 for file in files}) == 1


def test_weights_of_another_network_are_told_by_names_and_shapes(tmp_path: Path) -> None:
    other = build_network("conv4-16", channels=1, size=16, classes=5, seed=1)
    for tensors, message in (
        ({"other.x": torch.zeros(2), "b.y": torch.zeros(1)}, "it lacks backbone.* more; it has other.x and 1 more"),
        ({**other.state_dict()}, r"weight is 16x1x3x3, not 16x3x3x3"),
    ):
        torch.save(tensors, tmp_path / "w.pth")
        file = WeightsFile.at(str(tmp_path / "w.pth"))
        with pytest.raises(InputError, match=message):
            file.fill(network(), file.tensors(), "conv4-16")


SOUND = saved({"state_dict": {"a.b": torch.arange(3.0)}, "epoch": 3})


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, len(SOUND) - 1), st.binary(min_size=1, max_size=8))
def test_fuzzed_files_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, place: int, noise: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.pth"
    path.write_bytes(SOUND[:place] + noise + SOUND[place + len(noise) :])
    with contextlib.suppress(InputError):
        assert json.dumps(sorted(WeightsFile.at(str(path)).tensors()))
