"""What every method, data set, backbone and protocol keeps to: a file for each kind, a function for each rule.

A package of plug-ins checks its own in its tests::

    RULES = contract_of("method").rules

    @pytest.mark.parametrize("rule", RULES)
    def test_rule(rule, tmp_path):
        with subject("my-method", "method", tmp_path) as (_, checked):
            assert broken(RULES[rule], checked) is None
"""

from __future__ import annotations

from benchmark.checks.check import Contract, Rule, Subject, Verdict, broken
from benchmark.checks.entries import Kind, contract_of, subject

__all__ = ["Contract", "Kind", "Rule", "Subject", "Verdict", "broken", "contract_of", "subject"]
