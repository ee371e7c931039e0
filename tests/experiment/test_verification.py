from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmark.data import ImageSet
from benchmark.errors import InputError
from benchmark.experiment import runner
from benchmark.experiment.runner import Plan, Request, run, transfer_context
from benchmark.experiment.verification import repeat, replan
from benchmark.methods import METHODS
from benchmark.records.store import Record, Store
from benchmark.system.progress import Silent
from benchmark.training import select_device
from protocols import PROTOCOLS

SMOKE = ("protocol.episodes=50", "protocol.queries=4", "training.batch_size=8", "method.temperature=2.5")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("verify")


@pytest.fixture(scope="module")
def saved(root: Path) -> tuple[Record, dict[str, Any]]:
    plan = Plan(Request("fewshot-5way1shot", "kd", "tiny", "quick", SMOKE, limit_steps=3), root)
    device, store = select_device("cpu", "float32"), Store(root / "runs")
    run(plan, [4], store=store, data_root=root, device=device, progress=Silent())
    ((record,), _) = store.read()
    return record, store.arrays(record)


def again(root: Path, record: Record, arrays: dict[str, Any]) -> tuple[bool, str]:
    found = repeat(record, arrays, root, "cpu", Silent(), fresh_teacher=True)
    return found.equal, "\n".join(found.lines)


def test_a_repeated_run_is_equal_bit_for_bit_even_with_a_new_teacher(root: Path, saved: Any) -> None:
    equal, told = again(root, *saved)
    assert equal, told
    assert "equal bit for bit" in told
    assert f"{100 * saved[0]['value']:.2f} %" in told


def test_what_differs_is_named(root: Path, saved: Any) -> None:
    record, arrays = json.loads(json.dumps(saved[0])), dict(saved[1])
    record["value"] += 1e-12
    record["references"]["teacher"]["value"] = 0.0
    arrays["correct_student"] = arrays["correct_student"] + 1
    del arrays["correct_pixels"]
    equal, told = again(root, record, arrays)
    assert not equal
    for line in ("value 0.", "references.teacher.value 0.0 0.", "50 of 50 entries", "correct_pixels: only in the rep"):
        assert line in told


def test_a_run_of_another_version_is_not_repeated(root: Path, saved: Any) -> None:
    record = json.loads(json.dumps(saved[0]))
    record["config"]["versions"]["protocol"] = 0
    record["key"] = "0" * 64
    with pytest.raises(InputError, match=r"would not run what 000000000000 records: versions\.protocol 0 1"):
        again(root, record, saved[1])


def cases() -> list[tuple[str, str]]:
    found = []
    for protocol in ("fewshot-5way1shot", "distill-overlap50", "incremental-1step-5exemplars", "middleshot-5way1shot"):
        for name in METHODS.names():
            method = METHODS.get(name).entry
            if method.skip_reason(transfer_context(protocol, method)) is None:
                found.append((protocol, name))
    assert {p.split("-")[0] for p, _ in found} == {p.split("-")[0] for p in PROTOCOLS.names()}
    return found


@pytest.mark.parametrize(("protocol", "method"), cases())
def test_every_kind_of_run_is_planned_again_from_its_record(
    tmp_path: Path, tiny: ImageSet, monkeypatch: pytest.MonkeyPatch, protocol: str, method: str
) -> None:
    """All settings go through text and back: the key, made of them, stays."""
    monkeypatch.setattr(runner, "data_set", lambda name: lambda root: tiny)
    made = Plan(Request(protocol, method, "tiny", overrides=("training.lr=0.0123", "student.start=fresh")), tmp_path)
    spec = made.spec(3)
    record = {
        "key": spec.key, "config": json.loads(json.dumps(spec.config())), "protocol": protocol, "method": method,
        "dataset": "tiny", "preset": spec.preset, "seed": 3,
    }  # fmt: skip
    assert replan(record, tmp_path).spec(3).key == spec.key
