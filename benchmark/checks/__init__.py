"""Checks that every method, data set, backbone and protocol must pass: one module per kind, one function per check.

A plug-in package runs them in its own tests::

    CHECKS = suite_of("method").checks

    @pytest.mark.parametrize("check", CHECKS)
    def test_method_passes(check, tmp_path):
        with candidate("my-method", "method", tmp_path) as method:
            assert failure_of(CHECKS[check], method) is None
"""

from __future__ import annotations

from benchmark.checks.check import Candidate, Check, CheckFailed, CheckResult, CheckSuite, Kind, failure_of
from benchmark.checks.entries import candidate, suite_of

__all__ = [
    "Candidate",
    "Check",
    "CheckFailed",
    "CheckResult",
    "CheckSuite",
    "Kind",
    "candidate",
    "failure_of",
    "suite_of",
]
