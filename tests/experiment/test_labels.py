from __future__ import annotations

import json
from typing import Any

import pytest

from benchmark.data import ImageSet
from benchmark.experiment import planning
from benchmark.experiment.labels import label_of
from benchmark.experiment.planning import make_plan
from benchmark.experiment.request import Request


def record_of(tiny: ImageSet, monkeypatch: pytest.MonkeyPatch, *settings: str, preset: str = "quick") -> dict[str, Any]:
    """Return what a record of kd with seed 3 says of itself."""
    monkeypatch.setattr(planning, "data_set", lambda name: lambda root: tiny)
    spec = make_plan(Request("distill-same", "kd", "tiny", preset, settings), None).spec(3)  # type: ignore[arg-type]
    return {
        "config": json.loads(json.dumps(spec.config())), "protocol": "distill-same", "method": "kd", "dataset": "tiny",
        "preset": spec.preset, "seed": 3, "environment": {"precision": "float32"},
    }  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [
        (), ("training.lr=0.0123", "method.temperature=2.0"), ("teacher.seed=3",), ("teacher.seed=run",),
        ("training.nesterov=False", "student.backbone=resnet20", "protocol.images_per_class=3"),
    ],
)  # fmt: skip
def test_label_of_a_whole_record_is_the_recorded_one(
    tiny: ImageSet, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...]
) -> None:
    record = record_of(tiny, monkeypatch, *settings)
    assert label_of(record) == record["preset"]


def test_label_follows_the_config_and_not_what_a_record_is_called(
    tiny: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = record_of(tiny, monkeypatch, "training.steps=5")
    steps = "+training.steps=5"
    assert label_of({**record, "preset": "quick"}) == f"quick{steps}"
    assert label_of({**record, "preset": "quick+training.milestones=0.5"}) == f"quick{steps}"
    forged = label_of({**record, "preset": "paper"})
    assert forged.startswith("paper+")
    assert "training.steps=5" in forged
    assert "training.steps=5" in label_of({**record, "preset": "refilled-cub"})


def test_label_of_an_unknown_method_is_kept(tiny: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    record = record_of(tiny, monkeypatch)
    assert label_of({**record, "method": "of-a-plug-in", "preset": "quick+method.x=1"}) == "quick+method.x=1"
    assert label_of({"preset": "quick"}) == "quick"


def test_label_of_a_run_without_a_teacher_names_no_setting_of_one(
    tiny: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "data_set", lambda name: lambda root: tiny)
    settings = "teacher.steps=7", "training.steps=5"
    plan = make_plan(Request("distill-same", "ce", "tiny", overrides=settings), None)  # type: ignore[arg-type]
    record = {
        "config": json.loads(json.dumps(plan.spec(3).config())), "protocol": "distill-same", "method": "ce",
        "dataset": "tiny", "preset": plan.label, "seed": 3, "environment": {"precision": "float32"},
    }  # fmt: skip
    assert plan.label == label_of(record) == "quick+training.steps=5"
