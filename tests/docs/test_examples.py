"""What README and documentation tell people to type exists."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from benchmark.cli import app
from benchmark.data import DATASETS
from benchmark.methods import METHODS
from benchmark.recipes.recipe import recipe_names
from benchmark.settings import parse_overrides
from benchmark.spec import Student, Teacher, Training
from protocols import PROTOCOLS

from .markdown import PAGES, ROOT, blocks, commands, name, read

GROUP: Any = get_command(app)
TYPED = [(name(page), words) for page in PAGES for block in blocks(page) for words in commands(block)]
TO_COME = {"cosine", "all"}
"""Names that the tutorial makes, and the one for every method."""
NAMED: dict[str, Any] = {
    **dict.fromkeys(("protocol", "protocols"), PROTOCOLS),
    **dict.fromkeys(("method", "methods"), METHODS),
    **dict.fromkeys(("dataset", "datasets"), DATASETS),
}


def leaves(group: Any) -> list[Any]:
    return [leaf for c in group.commands.values() for leaf in (leaves(c) if hasattr(c, "commands") else [c])]


def settings() -> set[str]:
    """Every ``section.name`` that ``--set`` knows."""
    classes: dict[str, list[type]] = {"student": [Student], "teacher": [Teacher], "training": [Training]}
    classes["protocol"] = [PROTOCOLS.get(name).entry.Settings for name in PROTOCOLS.names()]
    classes["method"] = [METHODS.get(name).entry.Settings for name in METHODS.names()]
    return {f"{s}.{field.name}" for s, some in classes.items() for cls in some for field in dataclasses.fields(cls)}


@pytest.mark.parametrize(
    ("page", "words"), TYPED, ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_every_command_is_one(page: str, words: list[str]) -> None:
    command, rest = GROUP, list(words)
    while hasattr(command, "commands") and rest and rest[0] != "--help":
        command = command.commands[rest.pop(0)]
    try:
        with command.make_context(command.name, rest) as context:
            given = context.params
    except typer.Exit:  # --help
        return
    for option, known in NAMED.items():
        value = given.get(option) or ()
        for part in [value] if isinstance(value, str) else value:
            for one in part.split(","):
                # a reader of records takes the beginning of a protocol's name
                assert one in known or one in TO_COME or command.name in ("compare", "plot", "leaderboard"), one
    assert given.get("recipe") in (None, *recipe_names())
    if command.name == "run":
        items = [item for item in given["set_"] or () if not item.startswith("method.angle=")]
        chosen = parse_overrides(items)
        assert {f"{section}.{key}" for section in chosen for key in chosen[section]} <= settings()


def test_there_are_commands_to_look_at() -> None:
    assert len(TYPED) > 40
    assert {words[0] for _, words in TYPED} >= {"run", "sweep", "compare", "data", "show", "leaderboard", "report"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_option_and_setting_named_in_the_text_exists(page: Path) -> None:
    options = {"--help"} | {spelling for leaf in [GROUP, *leaves(GROUP)] for p in leaf.params for spelling in p.opts}
    text = re.sub(r"^( *)```.*?^\1```$", "", read(page), flags=re.DOTALL | re.MULTILINE)
    known = settings()
    for code in re.findall(r"`([^`\n]+)`", text):
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", code):
            assert option in options or option.endswith("-"), code
        for setting in re.findall(r"(?<![\w./-])((?:protocol|method|student|teacher|training)\.\w+)(?=[=`\s]|$)", code):
            assert setting in known or setting == "section.name", code


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#\s]*)(#[^)\s]*)?\)", read(page)):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), target
        assert path.is_relative_to(ROOT)
        if anchor and path.suffix == ".md":
            titles = re.findall(r"^#+ (.+)$", read(path), re.MULTILINE)
            assert anchor[1:] in {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles}
