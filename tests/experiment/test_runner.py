from __future__ import annotations

import hashlib
import inspect
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmark.errors import InputError
from benchmark.experiment import runner
from benchmark.experiment.planning import Plan, make_plan
from benchmark.experiment.request import Request
from benchmark.experiment.runner import RunContext, run, run_seed
from benchmark.experiment.verification import determined
from benchmark.methods import METHODS, Method
from benchmark.methods.source import source_sha256
from benchmark.records.folders import merge
from benchmark.records.schema import Record, apart
from benchmark.records.store import Store
from benchmark.system.progress import Silent
from benchmark.training import select_device

DEVICE = select_device("cpu", "float32")
SMOKE = ("protocol.episodes=60", "protocol.queries=4", "training.batch_size=16", "teacher.batch_size=16")


def make(root: Path, method: str = "ce", *overrides: str, limit: int | None = 4, **options: Any) -> Plan:
    request = Request("fewshot-5way1shot", method, "tiny", overrides=(*SMOKE, *overrides), limit_steps=limit, **options)
    return make_plan(request, root)


def go(root: Path, plan: Plan, seeds: list[int], results: str = "runs", **options: Any) -> list[Record]:
    return run(plan, seeds, RunContext(Store(root / results), root, DEVICE, Silent(), **options))


@pytest.mark.parametrize("method", ["ce", "refilled", "fitnet", "linear-probe", "ncm", "maml"])
def test_run_leaves_a_record_of_each_kind_of_method(tmp_path: Path, method: str) -> None:
    """A plain method, one of two stages, one with a connector, one that trains the head, none, or by episodes."""
    needs = METHODS.get(method).entry.needs
    plan = make(tmp_path, method)
    (record,) = go(tmp_path, plan, [3])
    assert record["status"] == "done", record
    assert record["key"] == plan.spec(3).key
    assert (record["method"], record["seed"], record["protocol"]) == (method, 3, "fewshot-5way1shot")
    steps = 4 if needs.trains != "nothing" else 0
    assert record["student_facts"]["steps"] == steps
    # a batch holds 16 images; an episode of maml 5 support images, shown twice, and 10 queries
    assert record["student_facts"]["images"] == (20 if method == "maml" else 16) * steps
    assert record["backbone"] == record["student_facts"]["backbone"]
    if needs.trains != "all":
        assert record["backbone"] == record["teacher"]
        assert record["value"] == record["references"]["teacher"]["value"]
    is_alone = method in ("ce", "maml")
    assert (record["teacher"] == "none") == is_alone == ("teacher" not in record["config"])
    assert record.get("beside", {}).get("teacher", {}).get("backbone") == ("conv4-64" if is_alone else None)
    assert record["teacher_facts"]["accuracy"] is not None
    own_head = {"common_head"} if needs.learns == "episodes" else set()
    assert set(record["references"]) == {"teacher", "pixels"} | own_head
    assert record["config"] == json.loads(json.dumps(plan.spec(3).config()))
    (path,) = (tmp_path / "runs").glob("*.npz")
    with np.load(path, allow_pickle=False) as arrays:
        assert record["value"] == pytest.approx(arrays["correct_student"].mean() / 20)
    text = json.dumps(record)
    assert str(tmp_path) not in text


@pytest.mark.parametrize("method", ["fitnet", "refilled"])
def test_run_repeats_bit_for_bit(tmp_path: Path, method: str) -> None:
    first, second = (go(tmp_path / side, make(tmp_path / side, method, limit=8), [0])[0] for side in ("a", "b"))
    assert determined(first) == determined(second)
    assert first["value"] != go(tmp_path / "a", make(tmp_path / "a", method, limit=8), [1])[0]["value"]


def test_run_reads_a_finished_record(tmp_path: Path) -> None:
    plan = make(tmp_path)
    first = go(tmp_path, plan, [0])[0]
    assert go(tmp_path, plan, [0])[0]["started"] == first["started"]
    assert determined(go(tmp_path, plan, [0], mode="force")[0]) == determined(first)
    assert len(list((tmp_path / "runs").glob("*.json"))) == 1
    assert go(tmp_path, plan, [0], mode="only-cache")[0]["value"] == first["value"]
    for mode, word in (("only-cache", "finished"), ("retry-failed", "failed")):
        with pytest.raises(InputError, match=f"no {word} record .* seed 1"):
            go(tmp_path, plan, [1], mode=mode)


def test_run_records_a_failure_and_retries_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = METHODS.get("kd").entry

    def broken(self: Method, *_: Any) -> Any:
        raise RuntimeError("no luck\nat all")

    plan = make(tmp_path, "kd")
    with monkeypatch.context() as patch:
        patch.setattr(entry, "loss", broken)
        (record,) = go(tmp_path, plan, [0])
    assert record["status"] == "failed"
    assert record["error"] == "RuntimeError: no luck"
    assert "value" not in record
    assert Store(tmp_path / "runs").find(plan.spec(0).key) == record
    assert go(tmp_path, plan, [0], mode="retry-failed")[0]["status"] == "done"
    assert len(list((tmp_path / "runs").glob("*.json"))) == 1


def test_run_records_divergence_as_a_failure(tmp_path: Path) -> None:
    plan = make(tmp_path, "ce", "training.lr=1e30", "training.steps=30", "teacher.steps=4", limit=None)
    (record,) = go(tmp_path, plan, [0])
    assert record["status"] == "failed"
    assert "DivergedError" in record["error"]
    assert "'ce'" in record["error"]


def test_runs_of_methods_share_teacher_and_budget(tmp_path: Path) -> None:
    records = [go(tmp_path, make(tmp_path, method), [0])[0] for method in ("ce", "refilled", "fitnet")]
    assert len({r["teacher_facts"]["key"] for r in records}) == 1
    assert len({r["facts"]["episodes_hash"] for r in records}) == 1
    assert len({r["student_facts"]["images"] for r in records}) == 1
    assert len(list((tmp_path / "teachers").glob("*/teacher.json"))) == 1


def test_run_takes_the_teacher_of_its_own_seed_setting(tmp_path: Path) -> None:
    keys = {
        seed: go(tmp_path, make(tmp_path, "kd", f"teacher.seed={seed}"), [5])[0]["teacher_facts"]["key"]
        for seed in (0, 1)
    }
    assert keys[0] != keys[1]
    assert go(tmp_path, make(tmp_path, "kd"), [6])[0]["teacher_facts"]["key"] == keys[0]


def test_run_refuses_published_statistics_on_grey_images(tmp_path: Path) -> None:
    changed = go(tmp_path, make(tmp_path, "ce", "training.normalisation=imagenet"), [0])[0]
    assert changed["value"] != go(tmp_path, make(tmp_path, "ce"), [0])[0]["value"]
    request = Request("distill-same", "ce", overrides=("training.normalisation=cifar100",), limit_steps=2)
    with pytest.raises(InputError, match="normalisation = cifar100 is of RGB images, glyphs is grey"):
        go(tmp_path, make_plan(request, tmp_path), [0])


def test_run_refuses_resized_crops_for_parallel_students(tmp_path: Path) -> None:
    request = Request("middleshot-5way1shot", "ce", "tiny", overrides=("training.crop=resized",), limit_steps=2)
    with pytest.raises(InputError, match="crop = resized: the students of middleshot-5way1shot see padded crops"):
        go(tmp_path, make_plan(request, tmp_path), [0])


def test_run_seed_waits_for_a_locked_run_or_skips_it(tmp_path: Path) -> None:
    plan, store = make(tmp_path), Store(tmp_path / "runs")
    store.check_writable()
    spec = plan.spec(0)
    messages: list[str] = []

    class Listening(Silent):
        def say(self, message: str) -> None:
            messages.append(message)
            if "waiting" in message:
                store.save({**finished, "key": spec.key}, {})
                lock.__exit__(None, None, None)

    finished = go(tmp_path / "elsewhere", plan, [0])[0]
    lock = store.locks.acquire(spec.key)
    context = RunContext(store, tmp_path, DEVICE, Listening())
    assert run_seed(plan, 0, context, wait=False) is None
    record = run_seed(plan, 0, context)
    assert record is not None
    assert record["started"] == finished["started"], "the record of the other process is returned"
    assert ["waiting" in line or "already measured" in line for line in messages] == [True, True]


def test_run_says_that_the_source_of_the_method_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, messages = make(tmp_path), list[str]()

    class Listening(Silent):
        def say(self, message: str) -> None:
            messages.append(message)

    (record,) = go(tmp_path, plan, [0])
    file = inspect.getsourcefile(plan.method)
    assert file is not None
    assert record["method_sha256"] == hashlib.sha256(Path(file).read_bytes()).hexdigest()
    context = RunContext(Store(tmp_path / "runs"), tmp_path, DEVICE, Listening())
    run_seed(plan, 0, context)
    assert not any("source file" in line for line in messages)
    monkeypatch.setattr(runner, "source_sha256", lambda method: "0" * 64)
    run_seed(plan, 0, context)
    assert [line for line in messages if "the source file of method ce has changed since" in line]


def test_method_of_no_file_has_no_hash() -> None:
    typed = type("Typed", (), {"__module__": "of_a_notebook"})
    assert source_sha256(typed) is None


def test_environment_names_model_and_instruction_set_of_the_processor(tmp_path: Path) -> None:
    (record,) = go(tmp_path, make(tmp_path), [0])
    environment = record["environment"]
    assert environment["instruction_set"].startswith(torch.backends.cpu.get_cpu_capability())
    if sys.platform == "linux":
        assert "model " in environment["cpu_model"] or "part " in environment["cpu_model"]


BODIES = {
    "torch's default dtype": "torch.set_default_dtype(torch.float64)",
    "torch's gradient mode": "torch.set_grad_enabled(False)",
    "torch.nn.functional.cross_entropy": "F.cross_entropy = lambda *a, **k: a[0].sum() * 0",
    "sys.stdout": "import sys; sys.stdout.close(); sys.stdout = None",
}


@pytest.mark.parametrize("name", BODIES)
def test_run_that_changes_the_process_fails_by_name_and_leaves_the_next_as_without_it(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    class Odd(METHODS.get("ce").entry):  # type: ignore[misc]
        def loss(self, *values: Any) -> Any:
            import torch
            import torch.nn.functional as F

            terms = super().loss(*values)
            print("printed within")  # noqa: T201
            exec(BODIES[name], {"torch": torch, "F": F})
            return terms

    before = torch.get_num_threads(), F.cross_entropy, torch.get_default_dtype()
    with METHODS.override("odd", Odd):
        (odd,) = go(tmp_path, make(tmp_path, "odd"), [0])
    assert odd["status"] == "failed"
    assert odd["error"].startswith("it changes what other runs depend on, which was put back: ")
    assert name in odd["error"]
    assert (torch.get_num_threads(), F.cross_entropy, torch.get_default_dtype()) == before
    (after,), (alone,) = (go(tmp_path / str(i), make(tmp_path / str(i), "ce"), [0]) for i in range(2))
    assert determined(after) == determined(alone)
    assert "printed" not in capfd.readouterr().out


def test_run_that_ends_the_process_is_a_failure(tmp_path: Path) -> None:
    class Ends(METHODS.get("ce").entry):  # type: ignore[misc]
        def loss(self, *values: Any) -> Any:
            raise SystemExit(3)

    with METHODS.override("ends", Ends):
        (record,) = go(tmp_path, make(tmp_path, "ends"), [0])
    assert (record["status"], record["error"]) == ("failed", "SystemExit: 3")


def test_a_teacher_beside_a_run_is_no_part_of_its_result(tmp_path: Path) -> None:
    """The record under one teacher stands for the other, whose references alone would differ."""
    first, other = (make(tmp_path, "ce", f"teacher.backbone={name}") for name in ("conv4-16", "conv4-32"))
    assert first.spec(0).key == other.spec(0).key
    (record,) = go(tmp_path, first, [0])
    assert go(tmp_path, other, [0])[0] == record
    (again,) = go(tmp_path, other, [0], results="other")
    assert determined(apart(again)) == determined(apart(record))
    assert again["references"]["teacher"] != record["references"]["teacher"]
    assert again["beside"]["teacher"]["backbone"] == "conv4-32"
    merged = merge([tmp_path / "other"], tmp_path / "runs")
    assert (merged.copied, merged.present, merged.problems) == (0, 1, [])
