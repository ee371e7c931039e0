"""The files of the recipes, and what is refused in one."""

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


def test_there_is_a_recipe_for_every_published_experiment() -> None:
    assert recipe_names() == [
        "fewshot-cub", "fewshot-miniimagenet", "gkd-cifar100", "gkd-cub", "incremental-cifar100", "incremental-cub",
        "refilled-cifar100", "refilled-cub", "repdistiller-cifar100",
    ]  # fmt: skip


@pytest.mark.parametrize("name", recipe_names())
def test_every_value_says_where_it_comes_from(name: str) -> None:
    """By a comment on its line, or on the line above."""
    lines = load_recipe(name).text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("["))
    values = [i for i in range(start, len(lines)) if re.match(r"\w+ = ", lines[i])]
    assert len(values) >= 14
    for i in values:
        assert re.search(r" # \w|# -", lines[i]) or lines[i - 1].startswith("# "), lines[i]
    assert max(map(len, lines)) <= 88


@pytest.mark.parametrize("name", recipe_names())
def test_the_two_families_of_wide_resnets_are_not_mixed(name: str) -> None:
    wide = [net for pair in load_recipe(name).pairs for net in pair if net.startswith("wrn")]
    assert len({net.endswith("-rd") for net in wide}) <= 1


@pytest.mark.parametrize(
    ("name", "images", "batch", "epochs", "stages"),
    [
        ("refilled-cifar100", 50_000, 256, 200, 2), ("gkd-cifar100", 25_000, 256, 200, 2),
        ("refilled-cub", 5_994, 256, 200, 2), ("gkd-cub", 2_997, 256, 200, 2),
        ("repdistiller-cifar100", 50_000, 64, 240, 1),
    ],
)  # fmt: skip
def test_steps_are_the_published_epochs(name: str, images: int, batch: int, epochs: int, stages: int) -> None:
    recipe = load_recipe(name)
    steps = epochs * -(-images // batch)
    assert recipe.shared["training"]["batch_size"] == batch
    assert recipe.shared["training"]["steps"] == steps
    assert recipe.own.get("refilled", {}).get("training", {}).get("steps", steps) == stages * steps
    teacher = recipe.shared["teacher"]
    assert teacher["steps"] == epochs * -(-images // teacher["batch_size"])


@pytest.mark.parametrize("name", recipe_names())
def test_published_numbers_are_of_what_the_recipe_covers(name: str) -> None:
    recipe = load_recipe(name)
    numbers = published_numbers(name)
    assert len(numbers) == {"refilled-cifar100": 36, "refilled-cub": 8, "repdistiller-cifar100": 36}.get(name, 0)
    for protocol, teacher, student, method in numbers:
        assert protocol in recipe.protocols
        assert (teacher, student) in recipe.pairs
        assert method in recipe.methods or method == "kd+vid"


def test_values_of_a_run() -> None:
    recipe = parse_recipe("r", SMALL)
    assert recipe.values("p", "m", "d")["training"] == {"steps": 10, "lr": 0.1}
    assert recipe.values("q", "n", "d")["training"] == {"steps": 20, "lr": 0.1}
    assert recipe.values("q", "n", "d")["method"] == {"weight": 3}
    for asked, found in (
        ((None, None), ("big", "small")), ((None, "tiny"), ("big", "tiny")), (("other", None), ("other", "small")),
    ):  # fmt: skip
        values = recipe.values("p", "m", "d", *asked)
        assert (values["teacher"]["backbone"], values["student"]["backbone"]) == found


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("x", "m", "d"), "recipe r is not for protocol x; it covers p, q"),
        (("p", "x", "d"), "recipe r is not for method x; it covers m, n"),
        (("p", "m", "x"), "recipe r is not for data set x; it covers d"),
        (("p", "m", "d", "other", "tiny"), "not for tiny from other; it covers small from big, tiny from big"),
        (("p", "m", "d", None, "x"), "not for x from any teacher"),
    ],
)
def test_what_it_does_not_cover_is_told(asked: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_recipe("r", SMALL).values(*asked)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "t"', "", "recipe r lacks 'title'"),
        ('title = "t"', "title = 3", "title must be text"),
        ('title = "t"', 'title = "t"\ntitel = "t"', "unknown key 'titel'; known: title, source"),
        ("[training]", "[trainin]", "unknown key 'trainin'"),
        ("[training]", "training = 3\n[teacher]", "training must be a table"),
        ('["m", "n"]', '["m", "m"]', "methods must be a list of different names"),
        ('["m", "n"]', "[]", "methods must be"),
        ('["big", "tiny"]', '["big"]', r"pairs must be a list of pairs \[teacher, student\]"),
        ("[for.n.method]", "[for.x.method]", r"\[for.x\] is of no method that it covers"),
        ("[for.n.method]", "[for.n.metod]", r"no section \[for.n.metod\]"),
        ("weight = 3", "weight", "is no TOML"),
    ],
)
def test_a_file_that_is_wrong_is_told(old: str, new: str, message: str) -> None:
    assert old in SMALL
    with pytest.raises(InputError, match=message):
        parse_recipe("r", SMALL.replace(old, new))


def test_unknown_recipes() -> None:
    with pytest.raises(InputError, match="did you mean 'refilled-cifar100'"):
        load_recipe("refiled-cifar100")
    with pytest.raises(InputError, match=r"unknown recipe '\.\./spec'"):
        load_recipe("../spec")


def test_weights_are_the_ones_of_the_sources() -> None:
    """Read again from the sources' tables, not from the methods' defaults."""
    own = tomllib.loads(load_recipe("repdistiller-cifar100").text)["for"]
    weights = {"kd": ("kd", 0.9), "fitnet": ("hint", 100), "at": ("attention", 1000), "sp": ("similarity", 3000),
               "rkd": ("distance", 25), "pkt": ("pkt", 30000), "crd": ("crd", 0.8), "nst": ("nst", 50),
               "vid": ("vid", 1), "dkd": ("beta", 8)}  # fmt: skip
    assert {method: (name, own[method]["method"][name]) for method, (name, _) in weights.items()} == weights
