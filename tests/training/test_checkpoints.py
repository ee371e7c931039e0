from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.experiment.measurement import measure
from benchmark.methods import METHODS
from benchmark.records.schema import determined
from benchmark.system import interrupts
from benchmark.system.progress import Silent
from benchmark.training import Checkpoints, TeacherStore, select_device
from benchmark.training.checkpoints import Checkpoint, Snapshot

from ..smoke import DEVICE, kind_of, methods_of_each_kind, smoke_plan

SMALL = {
    "distill-overlap50": ("training.batch_size=8",),
    "middleshot-5way1shot": ("protocol.tasks=25", "training.batch_size=5", "protocol.crops=8"),
}


class Listener(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def folder(root: Path, every: float = 0.0, progress: Silent | None = None) -> Checkpoints:
    return Checkpoints(root / "checkpoints", DEVICE, progress or Silent(), every)


def determined_results(
    root: Path, protocol: str, method: str, *more: str, checkpoints: Checkpoints | None, teachers: Path | None = None
) -> dict[str, Any]:
    """Return what a run determines, its arrays as bytes."""
    plan = smoke_plan(root, protocol, method, *SMALL[protocol], *more, limit_steps=7)
    store = TeacherStore((teachers or root) / "teachers")
    record, arrays = measure(plan, plan.spec(3), store, DEVICE, Silent(), checkpoints)
    assert record["status"] == "done", record
    return determined(record) | {name: x.tobytes() for name, x in arrays.items()}


def interrupted(
    root: Path, monkeypatch: pytest.MonkeyPatch, after: int, *run: str, teachers: Path | None = None
) -> dict[str, Any]:
    """Return the same of a run whose attempts are interrupted after that many checkpoints, except the last one."""
    real, saves, attempts = Checkpoint.save, [0], 0

    def save(self: Checkpoint, snapshot: Snapshot) -> None:
        real(self, snapshot)
        saves[0] += 1
        if saves[0] % after == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", save)
    while True:
        attempts += 1
        before = saves[0]
        try:
            result = determined_results(root, *run, checkpoints=folder(root), teachers=teachers)
        except KeyboardInterrupt:
            assert saves[0] > before
            continue
        assert attempts > 1, "never interrupted"
        return result


@pytest.mark.parametrize(
    "method", [name for name in methods_of_each_kind("middleshot-5way1shot") if kind_of(name).trains == "all"]
)
def test_interrupted_parallel_students_end_bit_for_bit_equal(
    tmp_path: Path, teachers: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Parallel students have a loop of their own; the check of every method interrupts the other loop."""
    run = "middleshot-5way1shot", method
    expected = determined_results(tmp_path / "whole", *run, checkpoints=None, teachers=teachers)
    assert interrupted(tmp_path / "pieces", monkeypatch, 1, *run, teachers=teachers) == expected


@pytest.mark.parametrize("backbone", ["wrn-10-1", "resnet8"])
def test_interrupted_run_of_another_backbone_ends_bit_for_bit_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: str
) -> None:
    """Teacher and student are interrupted; dropout and batch norm resume too."""
    run = "distill-overlap50", "refilled", f"student.backbone={backbone}", "training.sampler=balanced"
    run = (*run, "training.classes_per_batch=4")
    expected = determined_results(tmp_path / "whole", *run, checkpoints=None)
    assert interrupted(tmp_path / "pieces", monkeypatch, 3, *run) == expected


def test_interrupted_run_repeats_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    real = METHODS.get("refilled").entry.loss

    def loss(self: Any, batch: Any, *rest: Any) -> Any:
        drawn.append(1)
        return real(self, batch, *rest)

    monkeypatch.setattr(METHODS.get("refilled").entry, "loss", loss)
    interrupted(tmp_path, monkeypatch, 4, "distill-overlap50", "refilled")
    assert len(drawn) == 7


def test_signal_stops_between_two_steps_after_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "_signals", [])
    calls = [0]

    def counted(real: Any) -> Any:
        def loss(self: Any, *args: Any) -> Any:
            calls[0] += 1
            if calls[0] == 10:  # the third step of the student, after seven of the teacher
                signal.raise_signal(signal.SIGTERM)
            return real(self, *args)

        return loss

    patched = pytest.MonkeyPatch()
    for entry in (METHODS.get(name).entry for name in ("ce", "rkd")):
        patched.setattr(entry, "loss", counted(entry.loss))
    words = "distill-overlap50", "rkd"
    before = signal.signal(signal.SIGTERM, interrupts.handle_stop_signal)
    try:
        with pytest.raises(KeyboardInterrupt):
            determined_results(tmp_path, *words, checkpoints=folder(tmp_path, every=1e9))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert calls[0] == 10
    monkeypatch.setattr(interrupts, "_signals", [])
    found = determined_results(tmp_path, *words, checkpoints=folder(tmp_path))
    assert calls[0] == 14
    patched.undo()
    assert found == determined_results(tmp_path, *words, checkpoints=None)


def test_first_signal_is_deferred_and_second_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
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


def snapshot() -> Snapshot:
    weights = torch.arange(24, dtype=torch.float32).view(1, 2, 3, 4).contiguous(memory_format=torch.channels_last)
    return Snapshot({"w": weights, "two": weights[0, 0], "one": torch.tensor(1.5)}, {"step": 3, "rate": 0.1 + 0.2})


def test_checkpoint_restores_values_and_memory_layout(tmp_path: Path) -> None:
    part = folder(tmp_path).part("key", "student")
    assert part.load() is None
    part.save(Snapshot({}, {"step": 1}))
    part.save(snapshot())
    found = part.load()
    assert found is not None
    assert found.facts == snapshot().facts
    for name, tensor in snapshot().tensors.items():
        assert torch.equal(found.tensors[name], tensor)
        assert found.tensors[name].stride() == tensor.stride()
    assert sorted(p.suffix for p in (tmp_path / "checkpoints").glob("*/*")) == [".json", ".safetensors"]
    folder(tmp_path).clear("key")
    assert part.load() is None
    assert not list((tmp_path / "checkpoints").iterdir())


def test_checkpoint_of_other_conditions_is_not_loaded(tmp_path: Path) -> None:
    folder(tmp_path).part("key", "student").save(snapshot())
    assert folder(tmp_path).part("other key", "student").load() is None
    assert folder(tmp_path).part("key", "teacher").load() is None
    assert Checkpoints(tmp_path / "checkpoints", select_device("cpu", "bfloat16"), Silent()).part(
        "key", "student"
    ).load() is None  # fmt: skip


def test_checkpoint_is_due_by_time(tmp_path: Path) -> None:
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
def test_damaged_checkpoint_is_renamed_and_reported(tmp_path: Path, damage: str) -> None:
    listener = Listener()
    part = folder(tmp_path, progress=listener).part("key", "student")
    part.save(snapshot())
    (index,) = (tmp_path / "checkpoints").glob("*/*.json")
    (tensors,) = (tmp_path / "checkpoints").glob("*/*.safetensors")
    DAMAGES[damage](index, tensors)
    assert part.load() is None
    (said,) = listener.said
    assert "is damaged" in said
    assert "student.damaged" in said
    assert part.load() is None
    part.save(snapshot())
    assert part.load() is not None


def test_checkpoint_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("in the way")
    listener = Listener()
    folder(tmp_path, progress=listener).part("key", "student").save(snapshot())
    (said,) = listener.said
    assert "no checkpoint can be kept" in said


def test_checkpoint_holds_json_and_safetensors_alone(tmp_path: Path) -> None:
    folder(tmp_path).part("key", "student").save(snapshot())
    (index,) = (tmp_path / "checkpoints").glob("*/*.json")
    assert json.loads(index.read_text())["facts"] == snapshot().facts
    (tensors,) = (tmp_path / "checkpoints").glob("*/*.safetensors")
    header = int.from_bytes(tensors.read_bytes()[:8], "little")
    assert set(json.loads(tensors.read_bytes()[8 : 8 + header])) >= {"w", "one", "two"}
