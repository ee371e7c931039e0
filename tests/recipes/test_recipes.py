"""The files of the recipes, and errors in such files."""

from __future__ import annotations

import re
import tomllib

import pytest

from benchmark.errors import InputError
from benchmark.recipes.recipe import load_recipe, parse_recipe, recipe_names
from benchmark.report.published_numbers import published_numbers

SMALL = """
title = "t"
source = "s"
dataset = "d"
protocols = ["p", "q"]
methods = ["m", "n"]
pairs = [["big", "small"], ["big", "tiny"], ["other", "small"]]
[training]
steps = 10
lr = 0.1
[for.n.training]
steps = 20
[for.n.method]
weight = 3
"""


def test_recipe_names_lists_all_published_experiments() -> None:
    assert recipe_names() == [
        "fewshot-cub", "fewshot-miniimagenet", "gkd-cifar100", "gkd-cub", "incremental-cifar100", "incremental-cub",
        "refilled-cifar100", "refilled-cub", "refilled-cvpr20-cifar100", "refilled-cvpr20-cub", "repdistiller-cifar100",
    ]  # fmt: skip


@pytest.mark.parametrize("name", recipe_names())
def test_recipe_values_have_sources(name: str) -> None:
    """A source is a comment on the line of the value, or on the line above."""
    lines = load_recipe(name).text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("["))
    values = [i for i in range(start, len(lines)) if re.match(r"\w+ = ", lines[i])]
    assert len(values) >= 14
    for i in values:
        assert re.search(r" # \w|# -", lines[i]) or lines[i - 1].startswith("# "), lines[i]
    assert max(map(len, lines)) <= 88


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_do_not_mix_families_of_wide_resnets(name: str) -> None:
    wide = [net for pair in load_recipe(name).pairs for net in pair if net.startswith("wrn")]
    assert len({net.endswith("-rd") for net in wide}) <= 1


@pytest.mark.parametrize(
    ("name", "images", "batch", "epochs", "stages"),
    [
        ("refilled-cifar100", 50_000, 256, 200, 2), ("gkd-cifar100", 25_000, 256, 200, 2),
        ("refilled-cub", 5_994, 256, 200, 2), ("gkd-cub", 2_997, 256, 200, 2),
        ("refilled-cvpr20-cifar100", 50_000, 512, 200, 2), ("refilled-cvpr20-cub", 5_994, 512, 200, 2),
        ("repdistiller-cifar100", 50_000, 64, 240, 1),
    ],
)  # fmt: skip
def test_recipe_steps_equal_published_epochs(name: str, images: int, batch: int, epochs: int, stages: int) -> None:
    recipe = load_recipe(name)
    steps = epochs * -(-images // batch)
    assert recipe.shared["training"]["batch_size"] == batch
    assert recipe.shared["training"]["steps"] == steps
    own = next((values for method, values in recipe.by_method.items() if method.startswith("refilled")), {})
    assert own.get("training", {}).get("steps", steps) == stages * steps
    teacher = recipe.shared["teacher"]
    assert teacher["steps"] == epochs * -(-images // teacher["batch_size"])


@pytest.mark.parametrize("name", recipe_names())
def test_published_numbers_belong_to_covered_runs(name: str) -> None:
    recipe = load_recipe(name)
    numbers = published_numbers(name)
    counts = {"refilled-cvpr20-cifar100": 36, "refilled-cvpr20-cub": 8, "repdistiller-cifar100": 44}
    assert len(numbers) == counts.get(name, 0)
    for protocol, teacher, student, method in numbers:
        assert protocol in recipe.protocols
        assert (teacher, student) in recipe.pairs
        assert method in recipe.methods or method == "kd+vid"


def test_recipe_values_prefer_those_of_the_method() -> None:
    recipe = parse_recipe("r", SMALL)
    assert recipe.values("p", "m", "d")["training"] == {"steps": 10, "lr": 0.1}
    assert recipe.values("q", "n", "d")["training"] == {"steps": 20, "lr": 0.1}
    assert recipe.values("q", "n", "d")["method"] == {"weight": 3}
    for requested, pair in (
        ((None, None), ("big", "small")), ((None, "tiny"), ("big", "tiny")), (("other", None), ("other", "small")),
    ):  # fmt: skip
        values = recipe.values("p", "m", "d", *requested)
        assert (values["teacher"]["backbone"], values["student"]["backbone"]) == pair


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        (("x", "m", "d"), "recipe r is not for protocol x; it covers p, q"),
        (("p", "x", "d"), "recipe r is not for method x; it covers m, n"),
        (("p", "m", "x"), "recipe r is not for data set x; it covers d"),
        (("p", "m", "d", "other", "tiny"), "not for tiny from other; it covers small from big, tiny from big"),
        (("p", "m", "d", None, "x"), "not for x from any teacher"),
    ],
)
def test_recipe_values_refuse_runs_outside_the_recipe(requested: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_recipe("r", SMALL).values(*requested)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "t"', "", "recipe r: title is missing"),
        ('title = "t"', "title = 3", "recipe r: title = 3: input should be a valid string"),
        ('title = "t"', 'title = "t"\ntitel = "t"', "recipe r: unknown key 'titel'; did you mean 'title'"),
        ("[training]", "[trainin]", "unknown key 'trainin'; did you mean 'training'"),
        ("[training]", "training = 3\n[teacher]", "training = 3: input should be a valid dictionary"),
        ('["m", "n"]', '["m", "m"]', "recipe r: methods names an entry twice"),
        ('["m", "n"]', "[]", "recipe r: methods is empty"),
        ('["big", "tiny"]', '["big"]', r"recipe r: pairs\.1\.1 is missing"),
        ("[for.n.method]", "[for.x.method]", r"\[for\.x\]: no such method in the recipe; known: m, n"),
        (
            "[for.n.method]",
            "[for.n.metod]",
            r"unknown key 'for\.n\.metod'; did you mean 'method'",
        ),
        ("weight = 3", "weight", "recipe r is not TOML"),
    ],
)
def test_parse_recipe_names_the_wrong_key(old: str, new: str, message: str) -> None:
    assert old in SMALL
    with pytest.raises(InputError, match=message):
        parse_recipe("r", SMALL.replace(old, new))


def test_load_recipe_suggests_known_names() -> None:
    with pytest.raises(InputError, match="did you mean 'refilled-cifar100'"):
        load_recipe("refiled-cifar100")
    with pytest.raises(InputError, match=r"unknown recipe '\.\./spec'"):
        load_recipe("../spec")


def test_recipe_weights_equal_those_of_the_sources() -> None:
    """The expected weights are those of the sources' tables, not the defaults of the methods."""
    by_method = tomllib.loads(load_recipe("repdistiller-cifar100").text)["for"]
    weights = {"kd": ("kd", 0.9), "fitnet": ("hint", 100), "at": ("attention", 1000), "sp": ("similarity", 3000),
               "rkd": ("distance", 25), "pkt": ("pkt", 30000), "crd": ("crd", 0.8), "nst": ("nst", 50),
               "vid": ("vid", 1), "dkd": ("beta", 8)}  # fmt: skip
    assert {method: (name, by_method[method]["method"][name]) for method, (name, _) in weights.items()} == weights


def test_recipe_values_of_a_pair_replace_those_of_the_method() -> None:
    own = '[[for.n.pair]]\nteacher = "big"\nstudent = "tiny"\nmethod.weight = 5\ntraining.lr = 0.2\n'
    recipe = parse_recipe("r", SMALL + own)
    assert recipe.values("p", "n", "d")["method"] == {"weight": 3}
    values = recipe.values("p", "n", "d", "big", "tiny")
    assert (values["method"], values["training"]) == ({"weight": 5}, {"steps": 20, "lr": 0.2})
    assert recipe.values("p", "m", "d", "big", "tiny")["method"] == {}
    with pytest.raises(InputError, match=r"\[\[for.n.pair\]\]: the recipe has no tiny from other"):
        parse_recipe("r", SMALL + own.replace("big", "other"))
    with pytest.raises(InputError, match=r"unknown key 'for\.n\.pair\.0\.metod'; did you mean 'method'"):
        parse_recipe("r", SMALL + own.replace("method.weight", "metod.weight"))


@pytest.mark.parametrize(
    ("teacher", "student", "beta"),
    [
        ("wrn-40-2-rd", "wrn-16-2-rd", 6), ("wrn-40-2-rd", "wrn-40-1-rd", 6), ("resnet56", "resnet20", 2),
        ("resnet32x4", "resnet8x4", 8),
    ],
)  # fmt: skip
def test_dkd_has_the_beta_of_the_authors_configuration_of_each_pair(teacher: str, student: str, beta: int) -> None:
    values = load_recipe("repdistiller-cifar100").values("distill-same", "dkd", "cifar100", teacher, student)
    assert values["method"]["beta"] == beta
    assert values["method"]["temperature"] == 4


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_name_the_precision_and_the_kind_of_momentum(name: str) -> None:
    training = load_recipe(name).shared["training"]
    assert training["precision"] == "float32"
    assert training["nesterov"] == (not name.startswith(("incremental", "repdistiller")))


@pytest.mark.parametrize("name", ["gkd-cifar100", "gkd-cub"])
def test_kd_of_the_gkd_recipes_is_that_of_the_released_code(name: str) -> None:
    assert load_recipe(name).by_method["kd"]["method"] == {"ce": 1, "kd": 1, "temperature": 1}
