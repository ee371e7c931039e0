"""Run the checks of distillation-benchmark on the method."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark.checks import candidate, failure_of, suite_of

FILE = Path(__file__).with_name("my_method.py")
CHECKS = suite_of("method").checks


@pytest.mark.parametrize("check", CHECKS)
def test_method_passes(check: str, tmp_path: Path) -> None:
    with candidate(str(FILE), "method", tmp_path) as method:
        assert failure_of(CHECKS[check], method) is None
