"""The tutorial on a method of one's own is carried out as it stands, with few steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from .markdown import ROOT, blocks, commands

TUTORIAL = ROOT / "docs" / "own-method.md"
SMOKE = ["--limit-steps", "3"]
ONE_AFTER_THE_OTHER = """
import json, sys
from benchmark.cli import main
for words in json.loads(sys.argv[1]):
    print("\\n$", *words, flush=True)
    sys.argv = ["benchmark", *words]
    try:
        main()
    except SystemExit as exit_:
        if exit_.code:
            raise
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tutorial's files, and beside them what installing them would write."""
    folder = tmp_path_factory.mktemp("cosine")
    for block in blocks(TUTORIAL):
        if block.title is not None:
            (folder / block.title).write_text(block.text, encoding="utf-8")
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    installed = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    groups = project["entry-points"].items()
    points = (f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in named.items()) for group, named in groups)
    (installed / "entry_points.txt").write_text("".join(points))
    return folder


def execute(package: Path, *words: str) -> str:
    """What Python prints, with the package where pip would have put it."""
    paths = [str(package), str(ROOT), os.environ.get("PYTHONPATH", "")]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "BENCHMARK_DATA": str(package / "data"),
        "COLUMNS": "200",
    }
    done = subprocess.run([sys.executable, *words], cwd=package, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_tutorial_does_what_it_says(package: Path) -> None:
    lines = [words for block in blocks(TUTORIAL) for words in commands(block)]
    asked = [[*words, *(SMOKE if words[0] == "run" else [])] for words in lines]
    said = {}
    for part in execute(package, "-c", ONE_AFTER_THE_OTHER, json.dumps(asked)).split("\n$ ")[1:]:
        words, _, output = part.partition("\n")
        said[words] = output
    assert len(said) == len(asked)
    assert "FAIL" not in said["check cosine"]
    assert said["check cosine"].count("pass ") >= 10
    shown = said["show method cosine"]
    assert "loss = CE(z_s, y) + angle * mean (1 - cos(W e_s, e_t))" in shown
    assert "float >= 0" in shown
    listed = said["list methods --protocol distill-cross"]
    assert any(line.split()[:2] == ["cosine", "applies"] for line in listed.splitlines())
    assert "distill-cross tiny: " in said["compare cosine ce"]


def test_the_tutorials_own_test_passes(package: Path) -> None:
    assert " passed" in execute(
        package, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_rules.py", "-k", "docstring"
    )
    assert "1 passed" in execute(package, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_cosine_embedding.py")


def test_the_page_on_notebooks_is_one(tmp_path: Path) -> None:
    said = [execute(tmp_path, "-c", block.text) for block in blocks(ROOT / "docs" / "library.md")]
    assert "cannot tell refilled" in said[0]
    assert "Settings(" in said[1]


def test_the_task_set_of_the_page_on_learn2learn_is_one() -> None:
    (block,) = (block for block in blocks(ROOT / "docs" / "learn2learn.md") if block.language == "python")
    names: dict[str, object] = {}
    exec(block.text, names)
    images, labels = names["tasks"].sample()  # type: ignore[attr-defined]
    assert len(images) == len(labels) == 5 * (1 + 15)
