from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.backbones.network import Network, build_network
from benchmark.errors import InputError
from benchmark.system.progress import Silent
from benchmark.training import TeacherStore


def network(seed: int = 0) -> Network:
    return build_network("conv4-16", channels=1, size=16, classes=3, seed=seed)


class Listener(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def never() -> dict[str, Any]:
    raise AssertionError("trained again")


def test_a_teacher_is_trained_once_and_comes_back_bit_for_bit(tmp_path: Path) -> None:
    store = TeacherStore(tmp_path / "teachers")
    first, second = network(1), network(2)
    assert not store.has("key")
    facts = store.get("key", first, lambda: {"accuracy": 0.75})
    assert store.has("key")
    again = store.get("key", second, never)
    assert again == facts
    assert again["accuracy"] == 0.75
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_an_interrupted_training_leaves_nothing(tmp_path: Path) -> None:
    store = TeacherStore(tmp_path)

    def interrupted() -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.get("key", network(), interrupted)
    assert not store.has("key")
    assert store.get("key", network(), lambda: {"accuracy": 0.5})["accuracy"] == 0.5


def test_two_at_once_train_one_teacher(tmp_path: Path) -> None:
    trained = []

    def train() -> dict[str, Any]:
        trained.append(1)
        time.sleep(0.3)
        return {"accuracy": 0.5}

    threads = [threading.Thread(target=lambda: TeacherStore(tmp_path).get("key", network(), train)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(trained) == 1


DAMAGES = ["flip", "short", "facts", "nested", "another fact", "missing", "gone", "shape", "no checksum"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_teacher_is_renamed_and_trained_again(tmp_path: Path, damage: str) -> None:
    TeacherStore(tmp_path).get("key", network(), lambda: {"accuracy": 0.5})
    weights, facts = tmp_path / "key" / "weights.safetensors", tmp_path / "key" / "teacher.json"
    if damage == "flip":
        content = bytearray(weights.read_bytes())
        content[-5] ^= 1
        weights.write_bytes(content)
    elif damage == "short":
        weights.write_bytes(weights.read_bytes()[:100])
    elif damage == "facts":
        facts.write_text("[1")
    elif damage == "nested":
        facts.write_text("[" * 200_000)
    elif damage == "another fact":
        facts.write_text(facts.read_text().replace("0.5", "0.9"))
    elif damage == "missing":
        weights.unlink()
    elif damage == "gone":
        facts.unlink()
    elif damage == "no checksum":
        facts.write_text('{"accuracy": 0.5}')
    wanted = build_network("conv4-32", channels=1, size=16, classes=3, seed=3) if damage == "shape" else network(3)
    expected = {name: value.clone() for name, value in wanted.state_dict().items()}
    found: list[dict[str, torch.Tensor]] = []

    def train() -> dict[str, Any]:
        found.append({name: value.clone() for name, value in wanted.state_dict().items()})
        return {"accuracy": 0.25}

    listener = Listener()
    assert TeacherStore(tmp_path, listener).get("key", wanted, train)["accuracy"] == 0.25
    (said,) = listener.said
    assert "is damaged" in said
    assert "key.damaged" in said
    assert (tmp_path / "key.damaged").is_dir()
    # training starts from the network as it was, not from what was loaded of the damaged one
    assert all(torch.equal(value, found[0][name]) for name, value in expected.items())
    assert TeacherStore(tmp_path).get("key", wanted, never)["accuracy"] == 0.25


def test_earlier_damaged_teachers_are_kept(tmp_path: Path) -> None:
    for _ in range(3):
        TeacherStore(tmp_path).get("key", network(), lambda: {"accuracy": 0.5})
        (tmp_path / "key" / "teacher.json").write_text("")
    TeacherStore(tmp_path).get("key", network(), lambda: {"accuracy": 0.5})
    names = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert names == ["key", "key.damaged", "key.damaged-2", "key.damaged-3"]


def test_files_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    (tmp_path / "new-key").mkdir()
    (tmp_path / "new-key" / "weights.safetensors").write_bytes(b"half of it")
    TeacherStore(tmp_path).get("key", network(), lambda: {"accuracy": 0.5})
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["key"]


def test_store_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--data"):
        TeacherStore(tmp_path / "file" / "teachers").get("key", network(), never)
