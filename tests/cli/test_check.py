"""The commands ``check`` and ``new``. Plug-in packages are tested in ``tests/test_plugins.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.backbones import BACKBONES

from .conftest import Call

METHOD = 'from benchmark.methods.kd import KD\nclass {}(KD):\n    """Another. Somebody 2026."""\n'


def test_check_prints_every_check_and_exits_0_if_all_pass(call: Call) -> None:
    done = call("check", "tiny")
    assert done.returncode == 0
    rows = [line for line in done.stdout.splitlines() if line.startswith("pass")]
    assert len(rows) == 7
    assert "7 of 7 checks passed" in done.stderr


def test_check_prints_reason_of_failure_and_exits_1(call: Call, tmp_path: Path) -> None:
    (tmp_path / "stripes.py").write_text(
        'def stripes(root) -> \'ImageSet\':\n    """Tiny by another name."""\n'
        "    from benchmark.data.sets.tiny import tiny\n    return tiny(root)\n"
    )
    done = call("check", "stripes.py")
    assert done.returncode == 1
    (row,) = (line for line in done.stdout.splitlines() if line.startswith("FAIL"))
    assert "the name of its ImageSet is 'tiny'" in row
    assert "6 of 7 checks passed" in done.stderr


def test_check_of_file_with_two_entries_needs_attribute(call: Call, tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(METHOD.format("One") + METHOD.format("Two"))
    assert "two.py holds One, Two; say which, as two.py:One" in call("check", "two.py").stderr
    done = call("check", "two.py:Two")
    assert (done.returncode, "method two" in done.stdout) == (0, True), done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["refiled"], "unknown method 'refiled'; did you mean 'refilled'"),
        (["glyph"], "did you mean 'glyphs'"),
        (["ce", "--kind", "dataset"], "unknown data set 'ce'"),
        (["nowhere.py"], "there is no file nowhere.py"),
        (["empty.py"], "empty.py holds no method, protocol, backbone or function that returns an ImageSet"),
        (["empty.py:Thing"], "empty.py holds no Thing"),
        (["wrong.py"], "wrong.py cannot be imported (NameError"),
        (["cub"], "cub"),
    ],
)
def test_check_refuses_unusable_argument_in_one_line(
    call: Call, tmp_path: Path, words: list[str], message: str
) -> None:
    (tmp_path / "empty.py").write_text("import math\n")
    (tmp_path / "wrong.py").write_text("nothing\n")
    done = call("check", *words)
    if words == ["cub"]:  # a missing data set fails the checks that read it; the reason names the command to type
        assert done.returncode == 1
        assert "python -m benchmark data download cub" in done.stdout
        return
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_check_of_ambiguous_name_needs_kind(call: Call) -> None:
    with BACKBONES.override("tiny", BACKBONES.get("conv4-16").entry):
        done = call("check", "tiny")
    assert done.returncode == 2
    assert "tiny is a dataset and a backbone; say which with --kind" in done.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My-Method", "is not a name for a method"),
        ("my_method", "is not a name for a method"),
        ("../x", "is not a name for a method"),
        ("class", "is a word of Python"),
        ("refilled", "there is a method 'refilled' already"),
        ("json", "there is a Python module json already"),
    ],
)
def test_new_method_refuses_name(call: Call, tmp_path: Path, name: str, message: str) -> None:
    done = call("new", "method", name, "--out", "made")
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "made").exists()


def test_new_method_overwrites_nothing(call: Call, tmp_path: Path) -> None:
    (tmp_path / "own-one").mkdir()
    (tmp_path / "own-one/notes").touch()
    done = call("new", "method", "own-one")
    assert done.returncode == 2
    assert "own-one is not empty, and nothing is overwritten" in done.stderr
    assert "cannot write to /dev/null/x" in call("new", "method", "own-one", "--out", "/dev/null/x").stderr
    assert call("new").returncode == 2
