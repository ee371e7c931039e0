"""Recipes as a user meets them: listed, shown, planned in every combination, and run."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmark.data import ImageSet
from benchmark.data.dataset_store import import_dataset
from benchmark.data.published import PublishedDataset, data_set
from benchmark.errors import InputError
from benchmark.experiment import planning
from benchmark.experiment.planning import make_plan
from benchmark.experiment.request import Request
from benchmark.experiment.verification import plan_from_record
from benchmark.recipes.recipe import load_recipe, recipe_names
from benchmark.system.progress import Silent
from benchmark.training.teacher import _training as training_of_teacher
from tests.data import layouts

from .conftest import Call

SMOKE = ("--limit-steps", "3", "--set", "training.batch_size=8", "--set", "teacher.batch_size=8")
SMALLER = {
    "refilled-cifar100": ("--set", "protocol.images_per_class=1"),
    "gkd-cifar100": ("--set", "protocol.images_per_class=1"),
    "refilled-cub": ("--set", "training.input_size=64"),
    "refilled-cvpr20-cifar100": ("--set", "protocol.images_per_class=1"),
    "refilled-cvpr20-cub": ("--set", "training.input_size=64"),
    "gkd-cub": ("--set", "training.input_size=64"),
    "incremental-cub": ("--set", "training.input_size=64", "--protocol", "incremental-1step-0exemplars"),
    "incremental-cifar100": ("--protocol", "incremental-1step-0exemplars"),
    "fewshot-cub": ("--set", "protocol.queries=1", "--set", "protocol.episodes=40"),
    "fewshot-miniimagenet": ("--set", "protocol.queries=1", "--set", "protocol.episodes=40"),
}
"""For sets with few images of each class: no exemplars, one query. For time: fewer to embed, birds at 64 pixels."""


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    with layouts.small():
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the sets of all recipes, small, imported as the recipes have them."""
    sources, root = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("root")
    layouts.write_cifar100(sources / "cifar100")
    layouts.write_cub(sources / "cub")
    layouts.write_mini_csv(sources / "miniimagenet")
    with layouts.small():
        for name in recipe_names():
            recipe = load_recipe(name)
            published = data_set(recipe.dataset)
            assert isinstance(published, PublishedDataset)
            settings = {key: str(value) for key, value in recipe.imported.items()}
            source = sources / recipe.dataset.partition("-")[0]
            import_dataset(published, root, source, settings, workers=2, progress=Silent())
    return root


@pytest.mark.slow
@pytest.mark.parametrize("name", recipe_names())
def test_run_carries_out_every_recipe(call: Call, root: Path, name: str) -> None:
    done = call("run", "--recipe", name, "--data", str(root), "--json", *SMOKE, *SMALLER.get(name, ()))
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)
    recipe = load_recipe(name)
    assert record["status"] == "done", record
    assert record["preset"].startswith(f"{name}+")
    assert (record["teacher"], record["backbone"]) == recipe.pairs[0]
    assert record["method"] == recipe.methods[0]
    assert record["student_facts"]["steps"] == 3
    assert record["config"]["training"]["lr"] == recipe.shared["training"]["lr"]
    assert plan_from_record(record, root).spec(0).key == record["key"]


def combinations() -> list[tuple[str, str, str, tuple[str, str]]]:
    found = []
    for recipe in map(load_recipe, recipe_names()):
        found += [(recipe.name, *rest) for rest in itertools.product(recipe.protocols, recipe.methods, recipe.pairs)]
    return found


def test_recipes_plan_every_combination(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All names and settings are known, and what does not apply is no more than what cannot."""
    sets: dict[str, ImageSet] = {}
    for recipe in map(load_recipe, recipe_names()):
        few = data_set(recipe.dataset)(root)
        count = 20 * len(few.labels)
        sets[recipe.dataset] = dataclasses.replace(
            few,
            images=np.broadcast_to(np.zeros((1, 1, 1, 3), np.uint8), (count, *few.images.shape[1:])),
            labels=np.tile(few.labels, 20),
            groups=np.arange(count),
            official_test=None if few.official_test is None else np.tile(few.official_test, 20),
        )
    monkeypatch.setattr(planning, "data_set", lambda name: lambda root: sets[name])
    refused = set()
    teachers: dict[tuple[str, str, str, str], set[object]] = {}
    for name, protocol, method, (teacher, student) in combinations():
        fresh = ("student.start=fresh",) if name.startswith("incremental") and teacher != student else ()
        names = (f"teacher.backbone={teacher}", f"student.backbone={student}", *fresh)
        request = Request(protocol, method, load_recipe(name).dataset, name, names)
        try:
            spec = make_plan(request, root).spec(0)
        except InputError as error:
            if "does not apply" not in str(error):
                raise
            refused.add((name, protocol.rstrip("0123456789"), method, teacher == student))
            continue
        assert spec.preset == "+".join([name, *fresh])
        assert (spec.teacher.backbone, spec.student.backbone) == (teacher, student)
        loss = spec.teacher.loss
        assert loss == ("bce" if name.startswith("incremental") and method == "icarl" else "ce")
        teachers.setdefault((name, protocol, teacher, loss), set()).add((spec.teacher, training_of_teacher(spec)))
    assert all(len(own) == 1 for own in teachers.values()), "a recipe's methods share their teacher"
    starts = {"finetune", "replay", "lwf", "icarl", "eeil", "wa", "lucir"}
    assert {(name, method) for name, protocol, method, _ in refused if name.startswith(("refilled", "gkd"))} == {
        ("gkd-cifar100", "kd"), ("gkd-cub", "kd"),
    }  # fmt: skip
    assert {protocol for name, protocol, _, _ in refused if name.startswith("gkd")} == {"distill-cross"}
    assert {method for name, _, method, alike in refused if name.startswith("incr") and not alike} == starts
    assert not {name for name, *_ in refused if name.startswith(("fewshot", "repdistiller"))}


def test_plan_from_record_keeps_a_value_set_back_to_its_default(root: Path) -> None:
    """Though the record leaves it out and the recipe has another."""
    request = Request("distill-same", "kd", "cifar100", "repdistiller-cifar100", ("training.milestones=",))
    spec = make_plan(request, root).spec(0)
    assert "milestones" not in spec.config()["training"]
    record = {
        "key": spec.key, "config": json.loads(json.dumps(spec.config())), "protocol": spec.protocol,
        "method": "kd", "dataset": "cifar100", "preset": spec.preset, "seed": 0,
    }  # fmt: skip
    assert plan_from_record(record, root).spec(0).key == spec.key
    assert spec.preset == "repdistiller-cifar100+training.milestones="


def test_list_and_show_print_recipes(call: Call) -> None:
    listed = call("list", "recipes")
    assert listed.returncode == 0
    assert all(name in listed.stdout for name in recipe_names())
    shown = call("show", "recipe", "refilled-cvpr20-cifar100").stdout
    assert load_recipe("refilled-cvpr20-cifar100").text in shown
    assert "74.44 [1], 76.04 [2]" in shown
    assert "CVPR 2020 (later arXiv 2205.01915); standard KD table" in shown
    assert "no verified published number, and none measured here" in call("show", "recipe", "gkd-cub").stdout


@pytest.mark.slow
def test_run_prints_estimate_and_published_number_of_a_recipe(call: Call, root: Path) -> None:
    words = ("run", "--recipe", "repdistiller-cifar100", "--data", str(root), "--student", "resnet20")
    dry = call(*words, "--dry-run", "--json", "--set", "training.batch_size=16", "--set", "teacher.batch_size=16")
    assert dry.returncode == 0, dry.stderr
    facts = json.loads(dry.stdout)
    assert facts["settings"]["training"]["milestones"] == "0.625,0.75,0.875"
    assert facts["settings"]["training"]["input_size"] == 0
    work = facts["work"]
    assert (work["teacher_parameters"], work["student_parameters"]) == (861_620, 278_324)
    assert work["student_steps_per_seed"] == 187_680
    ran = call(*words, *SMOKE)
    assert ran.returncode == 0, ran.stderr
    assert "published: 70.66 % (RepDistiller recipe" in ran.stdout
    assert "settings that differ from the recipe: teacher.batch_size=8, teacher.steps=3" in ran.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--recipe", "refilled"], "unknown recipe 'refilled'; did you mean"),
        (["run", "--recipe", "refilled-cub", "--preset", "paper"], "--preset or --recipe, not both"),
        (["run", "--recipe", "refilled-cub", "--method", "kd"], "not for method kd; it covers refilled, ce"),
        (["run", "--recipe", "refilled-cub", "--protocol", "distill-cross"], "not for protocol distill-cross"),
        (["run", "--recipe", "refilled-cub", "--dataset", "tiny"], "not for data set tiny; it covers cub"),
        (["run", "--recipe", "refilled-cub", "--student", "conv4-64"], "not for conv4-64 from any teacher"),
        (["run", "--recipe", "refilled-cub"], "data import cub --set size=256 --set resize=cover"),
        (["run", "--protocol", "distill-same"], "missing option --method"),
        (["run", "--protocol", "distill-same", "--method", "kd", "--preset", "slow"], "has no preset 'slow'"),
        (["show", "recipe"], "show recipe takes a name"),
        (["show", "recipe", "x"], "unknown recipe 'x'"),
    ],
)
def test_wrong_recipe_options_are_one_line(call: Call, words: list[str], message: str) -> None:
    done = call(*words)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
