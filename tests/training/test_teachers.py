from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.backbones.network import Network, build_network
from benchmark.errors import InputError
from benchmark.training import TeacherBank


def network(seed: int = 0) -> Network:
    return build_network("conv4-16", channels=1, size=16, classes=3, seed=seed)


def never() -> dict[str, Any]:
    raise AssertionError("trained again")


def test_a_teacher_is_trained_once_and_comes_back_bit_for_bit(tmp_path: Path) -> None:
    bank = TeacherBank(tmp_path / "teachers")
    first, second = network(1), network(2)
    assert not bank.has("key")
    facts = bank.get("key", first, lambda: {"accuracy": 0.75})
    assert bank.has("key")
    again = bank.get("key", second, never)
    assert again == facts
    assert again["accuracy"] == 0.75
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_an_interrupted_training_leaves_nothing(tmp_path: Path) -> None:
    bank = TeacherBank(tmp_path)

    def interrupted() -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bank.get("key", network(), interrupted)
    assert not bank.has("key")
    assert bank.get("key", network(), lambda: {"accuracy": 0.5})["accuracy"] == 0.5


def test_two_at_once_train_one_teacher(tmp_path: Path) -> None:
    trained = []

    def train() -> dict[str, Any]:
        trained.append(1)
        time.sleep(0.3)
        return {"accuracy": 0.5}

    threads = [threading.Thread(target=lambda: TeacherBank(tmp_path).get("key", network(), train)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(trained) == 1


@pytest.mark.parametrize("damage", ["flip", "short", "facts", "missing", "shape"])
def test_a_damaged_teacher_is_named(tmp_path: Path, damage: str) -> None:
    bank = TeacherBank(tmp_path)
    bank.get("key", network(), lambda: {"accuracy": 0.5})
    weights = tmp_path / "key" / "weights.safetensors"
    if damage == "flip":
        content = bytearray(weights.read_bytes())
        content[-5] ^= 1
        weights.write_bytes(content)
    elif damage == "short":
        weights.write_bytes(weights.read_bytes()[:100])
    elif damage == "facts":
        (tmp_path / "key" / "teacher.json").write_text("[1")
    elif damage == "missing":
        weights.unlink()
    wanted = build_network("conv4-32", channels=1, size=16, classes=3, seed=0) if damage == "shape" else network()
    with pytest.raises(InputError, match=r"key is damaged .*remove that folder"):
        bank.get("key", wanted, never)


def test_a_bank_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--data"):
        TeacherBank(tmp_path / "file" / "teachers").get("key", network(), never)
