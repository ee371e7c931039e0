"""Plans: what they label, share and refuse."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest

from benchmark.data import ImageSet
from benchmark.errors import DoesNotApply, InputError
from benchmark.experiment.planning import make_plan
from benchmark.experiment.request import Request
from benchmark.methods import METHODS
from benchmark.spec import RunSpec


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
    by_run = make_plan(Request("fewshot-5way1shot", "kd", "tiny", overrides=("teacher.seed=run",)), tmp_path)
    named = make_plan(Request("fewshot-5way1shot", "kd", "tiny", overrides=("teacher.seed=3",)), tmp_path)
    plain = make_plan(Request("fewshot-5way1shot", "kd", "tiny"), tmp_path)
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


def test_preset_is_a_file_of_tuned_settings_or_the_folder_of_such_files(tmp_path: Path) -> None:
    file = tmp_path / "distill-overlap40.toml"
    file.write_text('["rkd"]\ntraining.lr = 0.05\nmethod.angle = 7.0\n')

    def spec(protocol: str, preset: Path | str, method: str = "rkd", *overrides: str) -> RunSpec:
        return make_plan(Request(protocol, method, "tiny", str(preset), overrides), tmp_path).spec(0)

    one = spec("distill-overlap40", file)
    assert (one.training.lr, one.method_settings.angle, one.method_settings.distance) == (0.05, 7.0, 25.0)
    assert one.preset == f"distill-overlap40@{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}"
    assert spec("distill-overlap40", tmp_path) == one
    assert spec("distill-overlap50", tmp_path).training.lr == 0.05, "protocols of a family share the file"
    assert spec("distill-cross", file).training.lr == 0.05
    changed = spec("distill-overlap40", file, "rkd", "method.angle=9")
    assert changed.preset == f"{one.preset}+method.angle=9.0"
    quick = spec("distill-overlap40", "quick", "rkd", "training.lr=0.05", "method.angle=7", "method.distance=25")
    assert quick.key == one.key
    for preset, method, protocol, message in (
        (file, "ce", "distill-same", "holds no settings of ce; it holds rkd"),
        (tmp_path, "rkd", "distill-cross", "holds no tuned settings of distill-cross, as distill-cross.toml"),
        (
            tmp_path / "none.toml",
            "rkd",
            "distill-same",
            "there is no file .*none.toml of tuned settings; `tune` writes",
        ),
        ("mine", "rkd", "distill-same", "no preset 'mine'; it has quick, paper, .*FILE.toml"),
        (one.preset, "rkd", "distill-same", "stands for a file of that sha256"),
    ):
        with pytest.raises(InputError, match=message):
            spec(protocol, preset, method)
    file.write_text('["rkd"]\nmethod.angel = 7.0\n')
    with pytest.raises(InputError, match="angle"):
        spec("distill-overlap40", file)


@pytest.mark.parametrize("protocol", ["distill-same", "distill-overlap50", "fewshot-5way1shot", "middleshot-5way1shot"])
def test_a_run_that_reads_no_teacher_is_the_same_whatever_teacher_is_named(tmp_path: Path, protocol: str) -> None:
    def keys(method: str, *more: str) -> set[str]:
        teachers = [(), ("teacher.backbone=conv4-32",), ("teacher.seed=run",), ("teacher.steps=7", "teacher.loss=bce")]
        requests = [Request(protocol, method, "tiny", overrides=(*teacher, *more)) for teacher in teachers]
        plans = [make_plan(request, tmp_path) for request in requests]
        assert {plan.reads_teacher for plan in plans} == {"teacher" in plan.spec(1).config() for plan in plans}
        return {plan.spec(1).key for plan in plans}

    assert len(keys("ce")) == 1
    assert len(keys("refilled")) == 4
    same = ("student.backbone=conv4-32", "teacher.backbone=conv4-32")
    if protocol == "fewshot-5way1shot":
        assert len(keys("maml")) == 1
        request = Request(protocol, "finetune", "tiny", overrides=same)
        assert make_plan(request, tmp_path).reads_teacher, "the student starts from it"


def test_every_method_has_a_teacher_where_the_protocol_reads_one(tmp_path: Path) -> None:
    plan = make_plan(Request("incremental-1step-5exemplars", "ce", "tiny"), tmp_path)
    assert plan.spec(0).config()["teacher"]["backbone"] == "conv4-32", "it chooses the exemplars"
