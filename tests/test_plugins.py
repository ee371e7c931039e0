"""A package of plug-ins, built and installed as any other, used from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.scaffold.write import write_method

PACKAGE = Path(__file__).parent / "plugin_package"
PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]


def install(source: Path, target: Path, scratch: Path) -> None:
    """Build a package with what is installed here, offline, and install it into ``target``."""
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    environment |= {"HOME": str(scratch), "TMPDIR": str(scratch), "PIP_NO_CACHE_DIR": "1"}
    done = subprocess.run([*PIP, "--target", str(target), str(source)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages with this one among them."""
    target = tmp_path_factory.mktemp("site")
    install(PACKAGE, target, tmp_path_factory.mktemp("scratch"))
    return target


def call(site: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(__file__).parent.parent), str(site), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "BENCHMARK_DATA": str(cwd / "data"), "COLUMNS": "250"}
    return subprocess.run(
        [sys.executable, "-m", "benchmark", *words], cwd=cwd, env=environment, capture_output=True, text=True
    )


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of an error."""
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        ("methods", "acme-cosine", "Match the teacher's similarities of a batch. Acme 2026. (plug-in of acme-plugin)"),
        ("methods", "acme-broken", "cannot be loaded (ModuleNotFoundError: No module named 'acme_missing_dependency')"),
        ("methods", "kd", "method 'kd' is both the suite's own and a plug-in of acme-plugin"),
        ("methods", "refilled", "relationship matching"),
        ("datasets", "acme-stripes", "Noisy stripes of 20 directions, 16 x 16 grey. (plug-in of acme-plugin)"),
        ("backbones", "acme-net-WIDTH", "Two strided convolutions of that width. (plug-in of acme-plugin)"),
        ("protocols", "acme-half", "three training images per class. (plug-in of acme-plugin)"),
    ],
)
def test_all_are_listed(site: Path, tmp_path: Path, kind: str, name: str, text: str) -> None:
    done = call(site, tmp_path, "list", kind)
    assert done.returncode == 0, done.stderr
    (row,) = (line for line in done.stdout.splitlines() if line.split()[:1] == [name])
    assert text in row


def test_a_run_is_made_of_plug_ins_alone(site: Path, tmp_path: Path) -> None:
    words = ["run", "--protocol", "acme-half", "--method", "acme-cosine", "--dataset", "acme-stripes", "--teacher"]
    words += ["acme-net-32", "--student", "acme-net-8", "--limit-steps", "4", "--set", "method.weight=5", "--json"]
    done = call(site, tmp_path, *words)
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)
    names = {name: record[name] for name in ("protocol", "method", "dataset", "backbone", "teacher", "preset")}
    assert list(names.values())[:5] == ["acme-half", "acme-cosine", "acme-stripes", "acme-net-8", "acme-net-32"]
    assert "method.weight=5.0" in names["preset"]
    assert record["facts"]["images_per_class"] == 3
    assert set(record["history"][0]) == {"stage", "step", "ce", "similar"}
    board = call(site, tmp_path, "leaderboard")
    assert (board.returncode, "acme-cosine" in board.stdout) == (0, True)
    gone = call(Path(), tmp_path, "leaderboard")  # the package is uninstalled, its records stay
    assert (gone.returncode, "acme-cosine" in gone.stdout) == (0, True)


@pytest.mark.parametrize("name", ["acme-cosine", "acme-stripes", "acme-net-8", "acme-half"])
def test_all_are_checked(site: Path, tmp_path: Path, name: str) -> None:
    done = call(site, tmp_path, "check", name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAIL" not in done.stdout
    assert done.stdout.count("pass") >= 7


def test_what_cannot_be_used_is_one_line_and_in_nobodys_way(site: Path, tmp_path: Path) -> None:
    run = ["run", "--protocol", "distill-same", "--dataset", "tiny", "--limit-steps", "2", "--method"]
    assert "acme_missing_dependency'); update or uninstall acme-plugin" in refused(
        call(site, tmp_path, *run, "acme-broken")
    )
    assert "uninstall acme-plugin" in refused(call(site, tmp_path, *run, "kd"))
    assert "acme_missing_dependency" in refused(call(site, tmp_path, "check", "acme-broken"))
    assert call(site, tmp_path, *run, "ce").returncode == 0
    standing = call(site, tmp_path, "list", "methods", "--protocol", "distill-same")
    rows = {line.split()[0]: line for line in standing.stdout.splitlines() if line.split()}
    assert "cannot be used" in rows["acme-broken"]
    assert rows["acme-cosine"].split()[1] == "applies"
    swept = call(site, tmp_path, "sweep", "--protocols", "distill-same", "--datasets", "tiny", "--dry-run")
    assert swept.returncode == 0, swept.stderr
    assert "acme_missing_dependency" in swept.stdout


def test_a_method_from_the_template_is_installed_and_keeps_to_every_rule(tmp_path: Path) -> None:
    written = call(Path(), tmp_path, "new", "method", "my-own", "--out", "made")
    assert written.returncode == 0, written.stderr
    folder = tmp_path / "made"
    assert sorted(path.name for path in folder.iterdir()) == ["my_own.py", "pyproject.toml", "test_my_own.py"]
    own = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "test_my_own.py"]
    tested = subprocess.run(own, cwd=folder, capture_output=True, text=True)
    assert (tested.returncode, "passed" in tested.stdout) == (0, True), tested.stdout
    target = tmp_path / "site"
    install(tmp_path / "made", target, tmp_path)
    checked = call(target, tmp_path, "check", "my-own")
    assert (checked.returncode, "FAIL" in checked.stdout) == (0, False), checked.stdout


def test_the_template_has_the_style_of_the_suite(tmp_path: Path) -> None:
    pytest.importorskip("ruff")
    write_method("my-own", tmp_path / "made")
    config = Path(__file__).parent.parent / "pyproject.toml"
    for words in (["check", "--ignore", "I001"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *words, "--no-cache", "--config", str(config), str(tmp_path / "made")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
