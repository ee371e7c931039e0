"""What ``check`` and ``new`` say; what a plug-in package does is in ``tests/test_plugins.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.backbones import BACKBONES

from .conftest import Call

METHOD = 'from benchmark.methods.kd import KD\nclass {}(KD):\n    """Another. Somebody 2026."""\n'


def test_a_check_that_all_is_kept_exits_0_and_prints_every_rule(call: Call) -> None:
    done = call("check", "tiny")
    assert done.returncode == 0
    rows = [line for line in done.stdout.splitlines() if line.startswith("pass")]
    assert len(rows) == 7
    assert "7 of 7 rules kept" in done.stderr


def test_a_rule_that_is_not_kept_is_told_with_the_reason(call: Call, tmp_path: Path) -> None:
    (tmp_path / "stripes.py").write_text(
        'def stripes(root) -> \'ImageSet\':\n    """Tiny by another name."""\n'
        "    from benchmark.data.sets.tiny import tiny\n    return tiny(root)\n"
    )
    done = call("check", "stripes.py")
    assert done.returncode == 1
    (row,) = (line for line in done.stdout.splitlines() if line.startswith("FAIL"))
    assert "the name of what it gives is 'tiny'" in row
    assert "6 of 7 rules kept" in done.stderr


def test_a_file_with_several_says_which(call: Call, tmp_path: Path) -> None:
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
def test_what_cannot_be_checked_is_one_line(call: Call, tmp_path: Path, words: list[str], message: str) -> None:
    (tmp_path / "empty.py").write_text("import math\n")
    (tmp_path / "wrong.py").write_text("nothing\n")
    done = call("check", *words)
    if words == ["cub"]:  # a data set that is not here breaks the rules that read it, with what to type
        assert done.returncode == 1
        assert "python -m benchmark data download cub" in done.stdout
        return
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_name_of_two_kinds_needs_the_kind(call: Call) -> None:
    with BACKBONES.override("tiny", BACKBONES.get("conv4-16").entry):
        done = call("check", "tiny")
    assert done.returncode == 2
    assert "tiny is a dataset and a backbone; say which with --kind" in done.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My-Method", "is no name for a method"),
        ("my_method", "is no name for a method"),
        ("../x", "is no name for a method"),
        ("class", "is no name for a method"),
        ("refilled", "there is a method 'refilled' already"),
        ("json", "there is a Python module json already"),
    ],
)
def test_odd_names_are_refused(call: Call, tmp_path: Path, name: str, message: str) -> None:
    done = call("new", "method", name, "--out", "made")
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "made").exists()


def test_nothing_is_overwritten(call: Call, tmp_path: Path) -> None:
    (tmp_path / "own-one").mkdir()
    (tmp_path / "own-one/notes").touch()
    done = call("new", "method", "own-one")
    assert done.returncode == 2
    assert "own-one is not empty, and nothing is overwritten" in done.stderr
    assert "cannot write to /dev/null/x" in call("new", "method", "own-one", "--out", "/dev/null/x").stderr
    assert call("new").returncode == 2
