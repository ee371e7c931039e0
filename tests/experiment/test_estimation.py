from __future__ import annotations

from pathlib import Path

from benchmark.experiment.estimation import estimate
from benchmark.experiment.planning import make_plan
from benchmark.experiment.request import Request
from benchmark.experiment.runner import RunContext, run
from benchmark.records.store import Store
from benchmark.system.progress import Silent
from benchmark.training import select_device

DEVICE = select_device("cpu", "float32")
SMOKE = ("protocol.episodes=60", "protocol.queries=4", "training.batch_size=16", "teacher.batch_size=16")


def test_estimate_trains_nothing(tmp_path: Path) -> None:
    request = Request("fewshot-5way1shot", "refilled", "tiny", overrides=SMOKE, limit_steps=50)
    plan = make_plan(request, tmp_path)
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
    run(plan, [0], RunContext(store, tmp_path, DEVICE, Silent()))
    later = estimate(plan, [0, 1], store=store, data_root=tmp_path, device=DEVICE)["work"]
    assert later["teacher_steps_to_train"] == 0
    assert later["seeds_already_measured"] == [0]
