"""Documentation that readers execute: the tutorial on plug-in methods, with few steps, and other pages' examples."""

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
RUN_ALL = """
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
    """The files of the tutorial, and the metadata that installing them would write."""
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
    sections = (f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items()) for group, entries in groups)
    (installed / "entry_points.txt").write_text("".join(sections))
    return folder


def execute(package: Path, *words: str) -> str:
    """Run Python with the package importable, as pip would have made it, and return its output."""
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


def test_tutorial_commands_work_as_described(package: Path) -> None:
    lines = [words for block in blocks(TUTORIAL) for words in commands(block)]
    calls = [[*words, *(SMOKE if words[0] == "run" else [])] for words in lines]
    outputs = {}
    for part in execute(package, "-c", RUN_ALL, json.dumps(calls)).split("\n$ ")[1:]:
        words, _, output = part.partition("\n")
        outputs[words] = output
    assert len(outputs) == len(calls)
    checked = outputs["check cosine"]
    assert "FAIL" not in checked
    assert checked.count("pass ") >= 10
    shown = outputs["show method cosine"]
    assert "loss = CE(z_s, y) + angle * mean (1 - cos(W e_s, e_t))" in shown
    assert "float >= 0" in shown
    listed = outputs["list methods --protocol distill-cross"]
    assert any(line.split()[:2] == ["cosine", "applies"] for line in listed.splitlines())
    assert "distill-cross tiny: " in outputs["compare cosine ce"]


@pytest.mark.slow
def test_tutorial_tests_pass(package: Path) -> None:
    """Of the checks one is enough here: the command ``check cosine`` runs them all."""
    tests = ["test_cosine_embedding.py", "test_checks.py", "-k", "cosine_embedding or is_documented"]
    assert "2 passed" in execute(package, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)


@pytest.mark.slow
def test_library_page_examples_run(tmp_path: Path) -> None:
    outputs = [execute(tmp_path, "-c", block.text) for block in blocks(ROOT / "docs" / "library.md")]
    assert "cannot tell refilled" in outputs[0]
    assert "Settings(" in outputs[3]


def test_learn2learn_page_example_samples_tasks() -> None:
    (block,) = (block for block in blocks(ROOT / "docs" / "learn2learn.md") if block.language == "python")
    names: dict[str, object] = {}
    exec(block.text, names)
    images, labels = names["tasks"].sample()  # type: ignore[attr-defined]
    assert len(images) == len(labels) == 5 * (1 + 15)
