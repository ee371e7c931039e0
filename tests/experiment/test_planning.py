"""Plans: what they label, share and refuse."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from benchmark.data import ImageSet
from benchmark.errors import DoesNotApply, InputError
from benchmark.experiment.planning import make_plan
from benchmark.experiment.request import Request
from benchmark.methods import METHODS


def test_make_plan_refuses_methods_of_other_label_spaces(tmp_path: Path) -> None:
    extended = [name for name in METHODS.names() if METHODS.get(name).entry.needs.labels == "extended"]
    assert "lwf" in extended
    for method in extended:
        with pytest.raises(InputError, match="incremental protocols"):
            make_plan(Request("fewshot-5way1shot", method, "tiny"), tmp_path)


def test_plan_labels_changed_settings(tmp_path: Path) -> None:
    plain = make_plan(Request("fewshot-5way1shot", "refilled", "tiny"), tmp_path)
    assert plain.spec(0).preset == "quick"
    same = make_plan(Request("fewshot-5way1shot", "refilled", "tiny", overrides=("method.margin=0.20",)), tmp_path)
    assert same.spec(0).preset == "quick"
    assert same.spec(0).key == plain.spec(0).key
    changed = make_plan(
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
def test_make_plan_refuses_wrong_requests(tmp_path: Path, request_: Request, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_plan(request_, tmp_path)


def test_teacher_seed_run_follows_the_seed_of_the_run(tmp_path: Path) -> None:
    by_run = make_plan(Request("fewshot-5way1shot", "ce", "tiny", overrides=("teacher.seed=run",)), tmp_path)
    named = make_plan(Request("fewshot-5way1shot", "ce", "tiny", overrides=("teacher.seed=3",)), tmp_path)
    plain = make_plan(Request("fewshot-5way1shot", "ce", "tiny"), tmp_path)
    assert {by_run.spec(seed).preset for seed in range(3)} == {"quick+teacher.seed=run"}
    assert [by_run.spec(seed).teacher.seed for seed in range(3)] == [0, 1, 2]
    assert by_run.spec(3).key == named.spec(3).key, "it is the same run under two labels"
    assert by_run.spec(0).key == plain.spec(0).key
    with pytest.raises(InputError, match=r"teacher\.seed"):
        make_plan(Request("fewshot-5way1shot", "ce", "tiny", overrides=("teacher.seed=runs",)), tmp_path)


def test_make_plan_raises_does_not_apply_for_parts_that_do_not_fit(tmp_path: Path) -> None:
    for protocol, method in (("distill-cross", "kd"), ("fewshot-20way1shot", "ce"), ("distill-overlap2", "ce")):
        with pytest.raises(DoesNotApply):
            make_plan(Request(protocol, method, "tiny"), tmp_path)
    with pytest.raises(InputError) as raised:
        make_plan(Request("distill-cross", "ce", "tiny", overrides=("protocol.val=2",)), tmp_path)
    assert not isinstance(raised.value, DoesNotApply)


def test_make_plan_shares_opened_data(tmp_path: Path) -> None:
    opened: dict[str, ImageSet] = {}
    plans = [make_plan(Request("distill-same", name, "tiny"), tmp_path, opened=opened) for name in ("ce", "kd")]
    assert plans[0].data is plans[1].data is opened["tiny"]


def test_plan_is_frozen(tmp_path: Path) -> None:
    plan = make_plan(Request("distill-same", "ce", "tiny"), tmp_path)
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.label = "paper"  # type: ignore[misc]
