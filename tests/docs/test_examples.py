"""Every command, option, setting and link in README and documentation exists."""

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
COMMANDS = [(name(page), words) for page in PAGES for block in blocks(page) for words in commands(block)]
UNREGISTERED = {"cosine", "all"}
"""The tutorial's own method, and the word for every method."""
REGISTRIES: dict[str, Any] = {
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
    return {
        f"{section}.{field.name}"
        for section, members in classes.items()
        for cls in members
        for field in dataclasses.fields(cls)
    }


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_command_exists_with_its_options_names_and_settings(page: str, words: list[str]) -> None:
    command, rest = GROUP, list(words)
    while hasattr(command, "commands") and rest and rest[0] != "--help":
        command = command.commands[rest.pop(0)]
    try:
        with command.make_context(command.name, rest) as context:
            parameters = context.params
    except typer.Exit:  # --help
        return
    for option, registry in REGISTRIES.items():
        value = parameters.get(option) or ()
        for part in [value] if isinstance(value, str) else value:
            for entry in part.split(","):
                # commands on records also accept the beginning of a protocol's name
                prefix_allowed = command.name in ("compare", "plot", "leaderboard")
                assert entry in registry or entry in UNREGISTERED or prefix_allowed, entry
    assert parameters.get("recipe") in (None, *recipe_names())
    if command.name == "run":
        # method.angle is a setting of the tutorial's method
        items = [item for item in parameters["set_"] or () if not item.startswith("method.angle=")]
        overrides = parse_overrides(items)
        assert {f"{section}.{key}" for section in overrides for key in overrides[section]} <= settings()


def test_documentation_shows_every_important_command() -> None:
    assert len(COMMANDS) > 40
    assert {words[0] for _, words in COMMANDS} >= {"run", "sweep", "compare", "data", "show", "leaderboard", "report"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_options_and_settings_in_the_text_exist(page: Path) -> None:
    options = {"--help"} | {spelling for leaf in [GROUP, *leaves(GROUP)] for p in leaf.params for spelling in p.opts}
    text = re.sub(r"^( *)```.*?^\1```$", "", read(page), flags=re.DOTALL | re.MULTILINE)
    known = settings()
    for code in re.findall(r"`([^`\n]+)`", text):
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", code):
            assert option in options or option.endswith("-"), code
        for setting in re.findall(r"(?<![\w./-])((?:protocol|method|student|teacher|training)\.\w+)(?=[=`\s]|$)", code):
            assert setting in known or setting == "section.name", code


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_within_the_repository_lead_to_a_file_and_heading(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#\s]*)(#[^)\s]*)?\)", read(page)):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), target
        assert path.is_relative_to(ROOT)
        if anchor and path.suffix == ".md":
            titles = re.findall(r"^#+ (.+)$", read(path), re.MULTILINE)
            assert anchor[1:] in {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles}
