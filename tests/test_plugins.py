"""A package of plug-ins, built and installed like any other, used from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = Path(__file__).parent / "plugin_package"
PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]

Done = subprocess.CompletedProcess[str]
Call = Callable[..., Done]


def install(source: Path, target: Path, scratch: Path) -> None:
    """Build a package offline, with the build tools installed here, and install it into ``target``."""
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    environment |= {"HOME": str(scratch), "TMPDIR": str(scratch), "PIP_NO_CACHE_DIR": "1"}
    done = subprocess.run([*PIP, "--target", str(target), str(source)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages that holds the package of plug-ins."""
    target = tmp_path_factory.mktemp("site")
    install(PACKAGE, target, tmp_path_factory.mktemp("scratch"))
    return target


def environment_in(cwd: Path) -> dict[str, str]:
    return {"BENCHMARK_DATA": str(cwd / "data"), "COLUMNS": "250"}


def call_really(site: Path, cwd: Path, *words: str) -> Done:
    """Run a command line in an interpreter of its own, with the packages of ``site``."""
    path = os.pathsep.join([str(ROOT), str(site), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, **environment_in(cwd)}
    command = [sys.executable, "-m", "benchmark", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def call() -> Iterator[Call]:
    """Runs command lines as ``call_really`` does, in forks of one process that has imported everything already."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.forked_calls"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        stdin, stdout = server.stdin, server.stdout

        def call_forked(site: Path | None, cwd: Path, *words: str) -> Done:
            paths = [] if site is None else [str(site)]
            request = {"words": words, "cwd": str(cwd), "paths": paths, "environment": environment_in(cwd)}
            print(json.dumps(request), file=stdin, flush=True)
            return subprocess.CompletedProcess(words, **json.loads(stdout.readline()))

        yield call_forked


def error_line(done: Done) -> str:
    """The only line that a refused command prints."""
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    return line


LISTED = {
    "methods": {
        "acme-cosine": "Match the teacher's similarities of a batch. Acme 2026. (plug-in of acme-plugin)",
        "acme-broken": "cannot be loaded (ModuleNotFoundError: No module named 'acme_missing_dependency')",
        "kd (acme-plugin)": "the plug-in of acme-plugin cannot be used: method 'kd' is the suite's own; rename it",
        "kd": "Hinton",
        "refilled": "relationship matching",
    },
    "datasets": {"acme-stripes": "Noisy stripes of 20 directions, 16 x 16 grey. (plug-in of acme-plugin)"},
    "backbones": {"acme-net-WIDTH": "Two strided convolutions of that width. (plug-in of acme-plugin)"},
    "protocols": {"acme-half": "three training images per class. (plug-in of acme-plugin)"},
}


@pytest.mark.parametrize("kind", LISTED)
def test_list_shows_plugins_with_their_package(site: Path, tmp_path: Path, call: Call, kind: str) -> None:
    done = (call_really if kind == "methods" else call)(site, tmp_path, "list", kind)
    assert done.returncode == 0, done.stderr
    for name, text in LISTED[kind].items():
        (row,) = (line for line in done.stdout.splitlines() if line.startswith(f"{name}  "))
        assert text in row


@pytest.mark.slow
def test_run_of_plugins_alone(site: Path, tmp_path: Path, call: Call) -> None:
    words = ["run", "--protocol", "acme-half", "--method", "acme-cosine", "--dataset", "acme-stripes", "--teacher"]
    words += ["acme-net-32", "--student", "acme-net-8", "--limit-steps", "4", "--set", "method.weight=5", "--json"]
    done = call_really(site, tmp_path, *words)
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)
    names = {name: record[name] for name in ("protocol", "method", "dataset", "backbone", "teacher", "preset")}
    assert list(names.values())[:5] == ["acme-half", "acme-cosine", "acme-stripes", "acme-net-8", "acme-net-32"]
    assert "method.weight=5.0" in names["preset"]
    assert record["facts"]["images_per_class"] == 3
    assert set(record["history"][0]) == {"stage", "step", "ce", "similar"}
    installed = call(site, tmp_path, "leaderboard")
    assert (installed.returncode, "acme-cosine" in installed.stdout) == (0, True)
    uninstalled = call(None, tmp_path, "leaderboard")  # the records outlive the package
    assert (uninstalled.returncode, "acme-cosine" in uninstalled.stdout) == (0, True)


@pytest.mark.parametrize("name", ["acme-cosine", "acme-stripes", "acme-net-8", "acme-half"])
def test_plugin_passes_every_check(site: Path, tmp_path: Path, call: Call, name: str) -> None:
    done = call(site, tmp_path, "check", name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAIL" not in done.stdout
    assert done.stdout.count("pass") >= 7


@pytest.mark.slow
def test_broken_plugin_is_one_line_and_affects_no_other_entry(site: Path, tmp_path: Path, call: Call) -> None:
    run = ["run", "--protocol", "distill-same", "--dataset", "tiny", "--limit-steps", "2", "--method"]
    broken = error_line(call(site, tmp_path, *run, "acme-broken"))
    assert "acme_missing_dependency'); update or uninstall acme-plugin" in broken
    assert call(site, tmp_path, *run, "kd").returncode == 0, "the suite's own name stands for the suite's own"
    assert "acme_missing_dependency" in error_line(call(site, tmp_path, "check", "acme-broken"))
    assert call(site, tmp_path, *run, "ce").returncode == 0
    listed = call(site, tmp_path, "list", "methods", "--protocol", "distill-same")
    rows = {line.split()[0]: line for line in listed.stdout.splitlines() if line.split()}
    assert "cannot be used" in rows["acme-broken"]
    assert rows["acme-cosine"].split()[1] == "applies"
    swept = call(site, tmp_path, "sweep", "--protocols", "distill-same", "--datasets", "tiny", "--dry-run")
    assert swept.returncode == 0, swept.stderr
    assert "acme_missing_dependency" in swept.stdout


@pytest.mark.slow
def test_new_method_is_installable_and_passes_every_check(tmp_path: Path, call: Call) -> None:
    written = call(None, tmp_path, "new", "method", "my-own", "--out", "made")
    assert written.returncode == 0, written.stderr
    folder = tmp_path / "made"
    assert sorted(path.name for path in folder.iterdir()) == ["my_own.py", "pyproject.toml", "test_my_own.py"]
    placeholders = ("my-method", "my_method", "MyMethod", "2000")
    assert not [path for path in folder.iterdir() if any(text in path.read_text() for text in placeholders)]
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "test_my_own.py"]
    tested = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert (tested.returncode, "passed" in tested.stdout) == (0, True), tested.stdout
    target = tmp_path / "site"
    install(folder, target, tmp_path)
    listed = call(target, tmp_path, "list", "methods")
    (row,) = (line for line in listed.stdout.splitlines() if line.split()[:1] == ["my-own"])
    assert "(plug-in of my-own)" in row
