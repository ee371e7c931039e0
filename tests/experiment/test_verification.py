from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmark.data import ImageSet
from benchmark.errors import InputError
from benchmark.experiment import planning
from benchmark.experiment.planning import make_plan, transfer_context
from benchmark.experiment.request import Request
from benchmark.experiment.runner import RunContext, run
from benchmark.experiment.verification import plan_from_record, reproduce
from benchmark.methods import METHODS
from benchmark.records.schema import Record
from benchmark.records.store import Store
from benchmark.system.progress import Silent
from benchmark.training import select_device
from protocols import PROTOCOLS

SMOKE = ("protocol.episodes=50", "protocol.queries=4", "training.batch_size=8", "method.temperature=2.5")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("verify")


@pytest.fixture(scope="module")
def saved(root: Path) -> tuple[Record, dict[str, Any]]:
    plan = make_plan(Request("fewshot-5way1shot", "kd", "tiny", "quick", SMOKE, limit_steps=3), root)
    device, store = select_device("cpu", "float32"), Store(root / "runs")
    run(plan, [4], RunContext(store, root, device, Silent()))
    ((record,), _) = store.read()
    return record, store.arrays(record)


def verify(root: Path, record: Record, arrays: dict[str, Any]) -> tuple[bool, str]:
    reproduction = reproduce(record, arrays, root, "cpu", Silent(), fresh_teacher=True)
    return reproduction.equal, "\n".join(reproduction.lines)


def test_reproduce_is_equal_bit_for_bit_with_a_fresh_teacher(root: Path, saved: Any) -> None:
    equal, text = verify(root, *saved)
    assert equal, text
    assert "equal bit for bit" in text
    assert f"{100 * saved[0]['value']:.2f} %" in text


def test_reproduce_names_differences(root: Path, saved: Any) -> None:
    record, arrays = json.loads(json.dumps(saved[0])), dict(saved[1])
    record["value"] += 1e-12
    record["references"]["teacher"]["value"] = 0.0
    arrays["correct_student"] = arrays["correct_student"] + 1
    del arrays["correct_pixels"]
    equal, text = verify(root, record, arrays)
    assert not equal
    for line in ("value 0.", "references.teacher.value 0.0 0.", "50 of 50 entries", "correct_pixels: only in the rep"):
        assert line in text


def test_reproduce_names_the_cause_in_its_first_line(root: Path, saved: Any) -> None:
    record = json.loads(json.dumps(saved[0]))
    record["value"] += 1e-12
    record["environment"] |= {"cpu": "another", "instruction_set": "AVX512", "threads": 64}
    first = verify(root, record, saved[1])[1].splitlines()[0]
    assert first.startswith(f"{record['key'][:12]}: differs; cause: processor (another AVX512, now ")
    assert "; number of threads (64, now " in first
    record["method_sha256"] = "0" * 64
    first = verify(root, record, saved[1])[1].splitlines()[0]
    assert "; cause: the source file of method kd has changed; processor" in first
    record = json.loads(json.dumps(saved[0]))
    record["facts"]["queries_per_episode"] = 3
    assert "cause: none is known" in verify(root, record, saved[1])[1].splitlines()[0]


def test_reproduce_trains_at_the_precision_of_the_record(root: Path, saved: Any, tmp_path: Path) -> None:
    plan = make_plan(
        Request("fewshot-5way1shot", "kd", "tiny", "quick", (*SMOKE, "training.precision=bfloat16"), limit_steps=3),
        root,
    )
    store = Store(tmp_path)
    run(plan, [4], RunContext(store, root, select_device("cpu", "bfloat16"), Silent()))
    ((record,), _) = store.read()
    low = record, store.arrays(record)
    found: list[str] = []
    chosen = select_device

    def noted(name: str, precision: Any) -> Any:
        found.append(precision)
        return chosen(name, precision)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmark.training.select_device", noted)
        assert verify(root, *saved)[0]
        assert verify(root, *low)[0]
    assert found == ["float32", "bfloat16"]


def test_reproduce_fails_where_a_record_is_not_what_it_is_called(root: Path, saved: Any) -> None:
    equal, text = verify(root, {**saved[0], "preset": "paper"}, saved[1])
    assert not equal
    assert "equal bit for bit, but it is called paper, and its settings are paper+" in text


def test_reproduce_refuses_a_run_of_another_version(root: Path, saved: Any) -> None:
    record = json.loads(json.dumps(saved[0]))
    record["config"]["versions"]["protocol"] = 0
    record["key"] = "0" * 64
    with pytest.raises(InputError, match=r"would not run what 000000000000 records: versions\.protocol 0 1"):
        verify(root, record, saved[1])


def cases() -> list[tuple[str, str]]:
    applicable = []
    for protocol in ("fewshot-5way1shot", "distill-overlap50", "incremental-1step-5exemplars", "middleshot-5way1shot"):
        for name in METHODS.names():
            method = METHODS.get(name).entry
            if method.skip_reason(transfer_context(protocol, method)) is None:
                applicable.append((protocol, name))
    assert {p.split("-")[0] for p, _ in applicable} == {p.split("-")[0] for p in PROTOCOLS.names()}
    return applicable


@pytest.mark.parametrize(("protocol", "method"), cases())
def test_plan_from_record_keeps_the_key_of_every_method(
    tmp_path: Path, tiny: ImageSet, monkeypatch: pytest.MonkeyPatch, protocol: str, method: str
) -> None:
    """All settings are written as text and read back, and the key stays the same."""
    monkeypatch.setattr(planning, "data_set", lambda name: lambda root: tiny)
    plan = make_plan(
        Request(protocol, method, "tiny", overrides=("training.lr=0.0123", "student.start=fresh")), tmp_path
    )
    spec = plan.spec(3)
    record = {
        "key": spec.key, "config": json.loads(json.dumps(spec.config())), "protocol": protocol, "method": method,
        "dataset": "tiny", "preset": spec.preset, "seed": 3,
        **({} if spec.reads_teacher else {"beside": json.loads(json.dumps(spec.teacher_config()))}),
    }  # fmt: skip
    assert plan_from_record(record, tmp_path).spec(3).key == spec.key
