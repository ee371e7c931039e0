from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.data import ImageSet
from benchmark.errors import DoesNotApply, InputError
from benchmark.experiment.estimation import estimate
from benchmark.experiment.runner import Plan, Request, run, run_seed
from benchmark.methods import METHODS, Method
from benchmark.records.store import Record, Store
from benchmark.system.progress import Silent
from benchmark.training import select_device

DEVICE = select_device("cpu", "float32")
SMOKE = ("protocol.episodes=60", "protocol.queries=4", "training.batch_size=16", "teacher.batch_size=16")


def make(root: Path, method: str = "ce", *overrides: str, limit: int | None = 4, **options: Any) -> Plan:
    request = Request("fewshot-5way1shot", method, "tiny", overrides=(*SMOKE, *overrides), limit_steps=limit, **options)
    return Plan(request, root)


def go(root: Path, plan: Plan, seeds: list[int], results: str = "runs", **options: Any) -> list[Record]:
    return run(plan, seeds, store=Store(root / results), data_root=root, device=DEVICE, progress=Silent(), **options)


@pytest.mark.parametrize("method", METHODS.names())
def test_every_method_runs_and_leaves_a_record(tmp_path: Path, method: str) -> None:
    needs = METHODS.get(method).entry.needs
    alike = ["student.backbone=conv4-64"] if needs.start == "teacher" and needs.trains == "all" else []
    if METHODS.get(method).entry.needs.labels == "extended":
        with pytest.raises(InputError, match="incremental protocols"):
            make(tmp_path, method, *alike)
        return
    plan = make(tmp_path, method, *alike)
    (record,) = go(tmp_path, plan, [3])
    assert record["status"] == "done", record
    assert record["key"] == plan.spec(3).key
    assert (record["method"], record["seed"], record["protocol"]) == (method, 3, "fewshot-5way1shot")
    steps = 4 if needs.trains != "nothing" else 0
    assert record["student_facts"]["steps"] == steps
    if needs.learns == "batches":
        assert record["student_facts"]["images"] == 16 * steps
    else:  # what 16 images give: 5 support images and 10 queries, the support shown twice by maml
        assert record["student_facts"]["images"] == (15 + 5 * (method == "maml")) * steps
    assert record["backbone"] == record["student_facts"]["backbone"]
    if needs.trains != "all":
        assert record["backbone"] == record["teacher"]
        assert record["value"] == record["references"]["teacher"]["value"]
    assert record["teacher_facts"]["accuracy"] is not None
    assert set(record["references"]) == {"teacher", "pixels"}
    assert record["config"] == json.loads(json.dumps(plan.spec(3).config()))
    (path,) = (tmp_path / "runs").glob("*.npz")
    with np.load(path, allow_pickle=False) as arrays:
        assert record["value"] == pytest.approx(arrays["correct_student"].mean() / 20)
    text = json.dumps(record)
    assert str(tmp_path) not in text


def comparable(record: Record) -> dict[str, Any]:
    """What must be equal when a run is repeated: everything but times, memory and the moment."""
    left_out = ("seconds", "peak_memory_mb", "started", "student_facts", "teacher_facts", "arrays")
    return {key: value for key, value in record.items() if key not in left_out}


@pytest.mark.parametrize("method", ["fitnet", "refilled"])
def test_the_same_run_twice_is_equal_bit_for_bit(tmp_path: Path, method: str) -> None:
    first, again = (go(tmp_path / side, make(tmp_path / side, method, limit=8), [0])[0] for side in ("a", "b"))
    assert comparable(first) == comparable(again)
    assert first["value"] != go(tmp_path / "a", make(tmp_path / "a", method, limit=8), [1])[0]["value"]


def test_a_finished_run_is_not_repeated(tmp_path: Path) -> None:
    plan = make(tmp_path)
    first = go(tmp_path, plan, [0])[0]
    assert go(tmp_path, plan, [0])[0]["started"] == first["started"]
    assert comparable(go(tmp_path, plan, [0], mode="force")[0]) == comparable(first)
    assert len(list((tmp_path / "runs").glob("*.json"))) == 1
    assert go(tmp_path, plan, [0], mode="only-cache")[0]["value"] == first["value"]
    for mode, word in (("only-cache", "finished"), ("retry-failed", "failed")):
        with pytest.raises(InputError, match=f"no {word} record .* seed 1"):
            go(tmp_path, plan, [1], mode=mode)


def test_a_failed_run_is_a_record_and_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_divergence_is_a_failed_record(tmp_path: Path) -> None:
    plan = make(tmp_path, "ce", "training.lr=1e30", "training.steps=30", "teacher.steps=4", limit=None)
    (record,) = go(tmp_path, plan, [0])
    assert record["status"] == "failed"
    assert "DivergedError" in record["error"]
    assert "'ce'" in record["error"]


def test_methods_share_teacher_and_budget(tmp_path: Path) -> None:
    records = [go(tmp_path, make(tmp_path, method), [0])[0] for method in ("ce", "refilled", "fitnet")]
    assert len({r["teacher_facts"]["key"] for r in records}) == 1
    assert len({r["facts"]["episodes_hash"] for r in records}) == 1
    assert len({r["student_facts"]["images"] for r in records}) == 1
    assert len(list((tmp_path / "teachers").glob("*/teacher.json"))) == 1


def test_the_teachers_seed_is_its_own(tmp_path: Path) -> None:
    keys = {
        seed: go(tmp_path, make(tmp_path, "ce", f"teacher.seed={seed}"), [5])[0]["teacher_facts"]["key"]
        for seed in (0, 1)
    }
    assert keys[0] != keys[1]
    assert go(tmp_path, make(tmp_path), [6])[0]["teacher_facts"]["key"] == keys[0]


def test_the_label_tells_what_was_changed(tmp_path: Path) -> None:
    plain = Plan(Request("fewshot-5way1shot", "refilled", "tiny"), tmp_path)
    assert plain.spec(0).preset == "quick"
    same = Plan(Request("fewshot-5way1shot", "refilled", "tiny", overrides=("method.margin=0.20",)), tmp_path)
    assert same.spec(0).preset == "quick"
    assert same.spec(0).key == plain.spec(0).key
    changed = Plan(
        Request("fewshot-5way1shot", "refilled", "tiny", overrides=("method.margin=0.1", "student.backbone=conv4-32")),
        tmp_path,
    )
    assert changed.spec(0).preset == "quick+method.margin=0.1"
    assert changed.spec(0).student.backbone == "conv4-32"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request("fewshot-5way1sht", "ce", "tiny"), "did you mean 'fewshot-5way1shot'"),
        (Request("fewshot-5way1shot", "cd", "tiny"), "unknown method"),
        (Request("fewshot-5way1shot", "ce", "tinny"), "did you mean 'tiny'"),
        (Request("fewshot-5way1shot", "ce", "tiny", preset="slow"), "no preset 'slow'; it has quick, paper"),
        (
            Request("fewshot-5way1shot", "ce", "tiny", overrides=("student.backbone=conv5-16",)),
            "unknown backbone 'conv5-16'",
        ),
        (Request("fewshot-5way1shot", "ce", "tiny", overrides=("method.margin=1",)), "no setting method.margin"),
        (Request("fewshot-5way1shot", "ce", "tiny", limit_steps=0), "at least one step"),
    ],
)
def test_requests_that_cannot_be_are_told(tmp_path: Path, request_: Request, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Plan(request_, tmp_path)


def test_published_statistics_are_of_colour_images(tmp_path: Path) -> None:
    changed = go(tmp_path, make(tmp_path, "ce", "training.normalisation=imagenet"), [0])[0]
    assert changed["value"] != go(tmp_path, make(tmp_path, "ce"), [0])[0]["value"]
    request = Request("distill-same", "ce", overrides=("training.normalisation=cifar100",), limit_steps=2)
    with pytest.raises(InputError, match="normalisation = cifar100 is of RGB images, glyphs is grey"):
        go(tmp_path, Plan(request, tmp_path), [0])


def test_students_side_by_side_see_padded_crops(tmp_path: Path) -> None:
    request = Request("middleshot-5way1shot", "ce", "tiny", overrides=("training.crop=resized",), limit_steps=2)
    with pytest.raises(InputError, match="crop = resized: the students of middleshot-5way1shot see padded crops"):
        go(tmp_path, Plan(request, tmp_path), [0])


def test_an_estimate_trains_nothing(tmp_path: Path) -> None:
    plan = make(tmp_path, "refilled", limit=50)
    store = Store(tmp_path / "runs")
    facts = estimate(plan, [0, 1], store=store, data_root=tmp_path, device=DEVICE)
    assert facts["work"]["teacher_steps_to_train"] == 50
    assert facts["work"]["estimated_training_seconds"] > 0
    assert facts["settings"]["training"]["steps"] == 50
    assert facts["settings"]["training"]["crop"] == "padded"
    # refilled reads the teacher in both stages, and a step of the student is three forward passes of its own
    flops = {name: facts["work"][f"gflops_per_{name}_step"] for name in ("teacher", "student")}
    assert flops["teacher"] / 3 < flops["student"] < flops["teacher"]
    assert facts["work"]["tflops_in_all"] == round((50 * flops["teacher"] + 100 * flops["student"]) / 1000, 1)
    assert not list(tmp_path.rglob("*.json"))
    go(tmp_path, plan, [0])
    later = estimate(plan, [0, 1], store=store, data_root=tmp_path, device=DEVICE)["work"]
    assert later["teacher_steps_to_train"] == 0
    assert later["seeds_already_measured"] == [0]


def test_each_run_may_have_the_teacher_of_its_own_seed(tmp_path: Path) -> None:
    own = Plan(Request("fewshot-5way1shot", "ce", "tiny", overrides=("teacher.seed=run",)), tmp_path)
    named = Plan(Request("fewshot-5way1shot", "ce", "tiny", overrides=("teacher.seed=3",)), tmp_path)
    plain = Plan(Request("fewshot-5way1shot", "ce", "tiny"), tmp_path)
    assert {own.spec(seed).preset for seed in range(3)} == {"quick+teacher.seed=run"}
    assert [own.spec(seed).teacher.seed for seed in range(3)] == [0, 1, 2]
    assert own.spec(3).key == named.spec(3).key, "it is the same run, whatever it is asked for by"
    assert own.spec(0).key == plain.spec(0).key
    with pytest.raises(InputError, match=r"teacher\.seed"):
        Plan(Request("fewshot-5way1shot", "ce", "tiny", overrides=("teacher.seed=runs",)), tmp_path)


def test_what_does_not_go_together_is_told_apart_from_what_is_wrong(tmp_path: Path) -> None:
    for protocol, method in (("distill-cross", "kd"), ("fewshot-20way1shot", "ce"), ("distill-overlap2", "ce")):
        with pytest.raises(DoesNotApply):
            Plan(Request(protocol, method, "tiny"), tmp_path)
    with pytest.raises(InputError) as told:
        Plan(Request("distill-cross", "ce", "tiny", overrides=("protocol.val=2",)), tmp_path)
    assert not isinstance(told.value, DoesNotApply)


def test_plans_share_the_data_they_open(tmp_path: Path) -> None:
    opened: dict[str, ImageSet] = {}
    plans = [Plan(Request("distill-same", name, "tiny"), tmp_path, opened=opened) for name in ("ce", "kd")]
    assert plans[0].data is plans[1].data is opened["tiny"]


def test_a_run_that_another_is_at_is_waited_for_or_left(tmp_path: Path) -> None:
    plan, store = make(tmp_path), Store(tmp_path / "runs")
    store.check_writable()
    spec = plan.spec(0)
    said: list[str] = []

    class Telling(Silent):
        def say(self, message: str) -> None:
            said.append(message)
            if "waiting" in message:
                store.save({**finished, "key": spec.key}, {})
                lock.__exit__(None, None, None)

    finished = go(tmp_path / "elsewhere", plan, [0])[0]
    lock = store.locks.acquire(spec.key)
    arguments = {"store": store, "data_root": tmp_path, "device": DEVICE}
    assert run_seed(plan, 0, progress=Telling(), wait=False, **arguments) is None  # type: ignore[arg-type]
    record = run_seed(plan, 0, progress=Telling(), **arguments)  # type: ignore[arg-type]
    assert record is not None
    assert record["started"] == finished["started"], "what the other has made is taken"
    assert ["waiting" in line or "already measured" in line for line in said] == [True, True]
