"""The tutorial on a method of one's own is carried out as it stands, with few steps."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from .markdown import ROOT, blocks, commands

TUTORIAL = ROOT / "docs" / "own-method.md"
SMOKE = ["--limit-steps", "3"]


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


def typed(package: Path, *words: str) -> str:
    paths = [str(package), str(ROOT), os.environ.get("PYTHONPATH", "")]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "BENCHMARK_DATA": str(package / "data"),
        "COLUMNS": "200",
    }
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=package, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_tutorial_does_what_it_says(package: Path) -> None:
    said = {}
    for block in blocks(TUTORIAL):
        for words in commands(block):
            said[words[0], words[-1]] = typed(package, "benchmark", *words, *(SMOKE if words[0] == "run" else ()))
    assert {command for command, _ in said} == {"show", "list", "run", "compare"}
    shown = said["show", "cosine"]
    assert "loss = CE(z_s, y) + angle * mean (1 - cos(W e_s, e_t))" in shown
    assert "float >= 0" in shown
    listed = said["list", "distill-cross"]
    assert any(line.split()[:2] == ["cosine", "applies"] for line in listed.splitlines())
    assert "distill-cross tiny: " in said["compare", "ce"]


def test_the_tutorials_own_test_passes(package: Path) -> None:
    assert "1 passed" in typed(package, "pytest", "-q", "-p", "no:cacheprovider", "test_cosine_embedding.py")


def test_the_task_set_of_the_page_on_learn2learn_is_one() -> None:
    (block,) = (block for block in blocks(ROOT / "docs" / "learn2learn.md") if block.language == "python")
    names: dict[str, object] = {}
    exec(block.text, names)
    images, labels = names["tasks"].sample()  # type: ignore[attr-defined]
    assert len(images) == len(labels) == 5 * (1 + 15)
