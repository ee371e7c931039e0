from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmark.errors import InputError
from benchmark.system.optional_packages import install_command, load_extra


def test_load_extra_imports_an_installed_package() -> None:
    assert load_extra("json.decoder", "pretrained", "this").__name__ == "json.decoder"


def test_load_extra_names_the_command_that_installs_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    with pytest.raises(InputError) as caught:
        load_extra("no_such_package.part", "pretrained", "teacher x")
    assert str(caught.value) == (
        "teacher x needs a package that is not installed (no_such_package); in the clone of this project: "
        'python -m pip install ".[pretrained]"'
    )


def test_install_command_fits_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/my env/bin/python")
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    assert install_command("-e x") == "'/my env/bin/python' -m pip install -e x"
    monkeypatch.setattr("benchmark.system.optional_packages._has_pip", lambda: False)
    assert install_command("-e x") == "uv pip install --python '/my env/bin/python' -e x"
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    assert install_command("-e x") == "uv pip install -e x"


def test_load_extra_shows_a_missing_dependency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_a_package.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        load_extra("half_a_package", "pretrained", "teacher x")
    assert "half_a_package" not in sys.modules
