from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.experiment.runner import Plan, Request, measure
from benchmark.methods import METHODS
from benchmark.system import interrupts
from benchmark.system.progress import Silent
from benchmark.training import Checkpoints, TeacherStore, select_device
from benchmark.training.checkpoints import Checkpoint, State

DEVICE = select_device("cpu", "float32")
COMPARED = ("status", "metric", "value", "n", "intervals", "references", "facts", "history")
SMOKE = {
    "fewshot-5way1shot": ("protocol.episodes=50", "protocol.queries=4", "training.batch_size=15"),
    "distill-overlap50": ("training.batch_size=8",),
    "incremental-1step-5exemplars": ("training.batch_size=8",),
    "middleshot-5way1shot": ("protocol.tasks=45", "protocol.queries=4", "training.batch_size=5"),
}


class Listener(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def folder(root: Path, every: float = 0.0, progress: Silent | None = None) -> Checkpoints:
    return Checkpoints(root / "checkpoints", DEVICE, progress or Silent(), every)


def carry_out(root: Path, protocol: str, method: str, *more: str, checkpoints: Checkpoints | None) -> dict[str, Any]:
    """What a run determines, its arrays as bytes."""
    plan = Plan(Request(protocol, method, "tiny", "quick", (*SMOKE[protocol], *more), limit_steps=7), root)
    bank = TeacherStore(root / "teachers")
    record, arrays = measure(plan, plan.spec(3), bank, DEVICE, Silent(), checkpoints)
    assert record["status"] == "done", record
    return {name: record[name] for name in COMPARED} | {name: x.tobytes() for name, x in arrays.items()}


def broken_off(root: Path, monkeypatch: pytest.MonkeyPatch, after: int, *what: str) -> dict[str, Any]:
    """As ``carry_out``, every attempt broken off as soon as that many checkpoints are written, but for the last."""
    real, saves, attempts = Checkpoint.save, [0], 0

    def save(self: Checkpoint, state: State) -> None:
        real(self, state)
        saves[0] += 1
        if saves[0] % after == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", save)
    while True:
        attempts += 1
        before = saves[0]
        try:
            result = carry_out(root, *what, checkpoints=folder(root))
        except KeyboardInterrupt:
            assert saves[0] > before
            continue
        assert attempts > 1, "never broken off"
        return result


@pytest.mark.parametrize("method", ["refilled", "ce", "finetune"])
def test_many_students_broken_off_again_and_again_end_as_if_they_never_had_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """They have a loop of their own; the other is put to it by a rule of every method's contract."""
    expected = carry_out(tmp_path / "whole", "middleshot-5way1shot", method, checkpoints=None)
    assert broken_off(tmp_path / "pieces", monkeypatch, 2, "middleshot-5way1shot", method) == expected


@pytest.mark.parametrize("backbone", ["wrn-10-1", "resnet8"])
def test_so_does_one_of_another_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: str) -> None:
    words = "distill-overlap50", "refilled", f"student.backbone={backbone}", "training.sampler=balanced"
    words = (*words, "training.classes_per_batch=4")
    expected = carry_out(tmp_path / "whole", *words, checkpoints=None)
    assert broken_off(tmp_path / "pieces", monkeypatch, 3, *words) == expected


def test_it_does_not_begin_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    real = METHODS.get("refilled").entry.loss

    def loss(self: Any, batch: Any, *rest: Any) -> Any:
        drawn.append(1)
        return real(self, batch, *rest)

    monkeypatch.setattr(METHODS.get("refilled").entry, "loss", loss)
    broken_off(tmp_path, monkeypatch, 4, "distill-overlap50", "refilled")
    assert len(drawn) == 7


def test_a_signal_is_heeded_between_two_steps_and_what_is_done_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupts, "_signals", [])
    entry = METHODS.get("ce").entry
    real, calls = entry.loss, [0]

    def loss(self: Any, *args: Any) -> Any:
        calls[0] += 1
        if calls[0] == 10:  # the third step of the student, after seven of the teacher
            signal.raise_signal(signal.SIGTERM)
        return real(self, *args)

    monkeypatch.setattr(entry, "loss", loss)
    words = "distill-overlap50", "ce"
    before = signal.signal(signal.SIGTERM, interrupts.handle_stop_signal)
    try:
        with pytest.raises(KeyboardInterrupt):
            carry_out(tmp_path, *words, checkpoints=folder(tmp_path, every=1e9))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert calls[0] == 10
    monkeypatch.setattr(interrupts, "_signals", [])
    found = carry_out(tmp_path, *words, checkpoints=folder(tmp_path))
    assert calls[0] == 14
    monkeypatch.setattr(entry, "loss", real)
    assert found == carry_out(tmp_path, *words, checkpoints=None)


def test_the_first_signal_waits_for_what_is_held_and_a_second_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "_signals", [])
    reached: list[str] = []

    def nested(*signals: str) -> None:
        with interrupts.defer_signals():
            with interrupts.defer_signals():
                for name in signals:
                    interrupts.handle_stop_signal(2, None)
                    reached.append(name)
            reached.append("outer")

    with pytest.raises(KeyboardInterrupt):
        nested("first", "second")
    assert reached == ["first"]
    monkeypatch.setattr(interrupts, "_signals", [])
    with pytest.raises(KeyboardInterrupt):
        nested("alone")
    assert reached == ["first", "alone", "outer"]
    with pytest.raises(KeyboardInterrupt):
        interrupts.handle_stop_signal(2, None)


def state() -> State:
    weights = torch.arange(24, dtype=torch.float32).view(1, 2, 3, 4).contiguous(memory_format=torch.channels_last)
    return State({"w": weights, "two": weights[0, 0], "one": torch.tensor(1.5)}, {"step": 3, "rate": 0.1 + 0.2})


def test_state_comes_back_with_values_and_layout(tmp_path: Path) -> None:
    part = folder(tmp_path).part("key", "student")
    assert part.load() is None
    part.save(State({}, {"step": 1}))
    part.save(state())
    found = part.load()
    assert found is not None
    assert found.facts == state().facts
    for name, tensor in state().tensors.items():
        assert torch.equal(found.tensors[name], tensor)
        assert found.tensors[name].stride() == tensor.stride()
    assert sorted(p.suffix for p in (tmp_path / "checkpoints").glob("*/*")) == [".json", ".safetensors"]
    folder(tmp_path).clear("key")
    assert part.load() is None
    assert not list((tmp_path / "checkpoints").iterdir())


def test_what_was_kept_elsewhere_is_not_gone_on_from(tmp_path: Path) -> None:
    folder(tmp_path).part("key", "student").save(state())
    assert folder(tmp_path).part("other key", "student").load() is None
    assert folder(tmp_path).part("key", "teacher").load() is None
    assert Checkpoints(tmp_path / "checkpoints", select_device("cpu", "bfloat16"), Silent()).part(
        "key", "student"
    ).load() is None  # fmt: skip


def test_it_is_due_by_time(tmp_path: Path) -> None:
    assert folder(tmp_path).part("key", "student").due()
    patient = folder(tmp_path, every=1e9).part("key", "student")
    assert not patient.due()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGES: dict[str, Any] = {
    "flipped bit in tensors": lambda index, tensors: flip(tensors),
    "short tensors": lambda index, tensors: tensors.write_bytes(tensors.read_bytes()[:-9]),
    "no tensors": lambda index, tensors: tensors.unlink(),
    "empty index": lambda index, tensors: index.write_bytes(b""),
    "flipped bit in index": lambda index, tensors: flip(index),
    "another number": lambda index, tensors: index.write_text(index.read_text().replace('"step": 3', '"step": 4')),
    "no object": lambda index, tensors: index.write_text("[1, 2]"),
    "no checksum": lambda index, tensors: index.write_text("{}"),
    "nested": lambda index, tensors: index.write_text("[" * 200_000),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_set_aside_and_said(tmp_path: Path, damage: str) -> None:
    listener = Listener()
    part = folder(tmp_path, progress=listener).part("key", "student")
    part.save(state())
    (index,) = (tmp_path / "checkpoints").glob("*/*.json")
    (tensors,) = (tmp_path / "checkpoints").glob("*/*.safetensors")
    DAMAGES[damage](index, tensors)
    assert part.load() is None
    (said,) = listener.said
    assert "is damaged" in said
    assert "student.damaged" in said
    assert part.load() is None
    part.save(state())
    assert part.load() is not None


def test_a_folder_that_takes_nothing_is_said_and_training_goes_on(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("in the way")
    listener = Listener()
    folder(tmp_path, progress=listener).part("key", "student").save(state())
    (said,) = listener.said
    assert "no checkpoint can be kept" in said


def test_nothing_is_pickled(tmp_path: Path) -> None:
    folder(tmp_path).part("key", "student").save(state())
    (index,) = (tmp_path / "checkpoints").glob("*/*.json")
    assert json.loads(index.read_text())["facts"] == state().facts
    (tensors,) = (tmp_path / "checkpoints").glob("*/*.safetensors")
    header = int.from_bytes(tensors.read_bytes()[:8], "little")
    assert set(json.loads(tensors.read_bytes()[8 : 8 + header])) >= {"w", "one", "two"}
