"""Each rule of applicability refuses one method in one context, and ``skip_reason`` gives its reason."""

from __future__ import annotations

from typing import Any

import pytest

from benchmark.methods import METHODS, TransferContext
from benchmark.methods import applicability as rules
from benchmark.methods.fitnet import shared_classes_for_distillation

CASES: dict[rules.Rule, tuple[str, dict[str, Any], TransferContext]] = {
    rules.matching_classes: ("dkd", {}, TransferContext("overlap", "a", "a")),
    rules.episodes_for_episodic_methods: ("anil", {}, TransferContext("same", "a", "a", evaluated="embedding")),
    rules.trained_head: ("refilled", {"embedding_share": 1.0}, TransferContext("same", "a", "a")),
    rules.exemplars: ("icarl", {}, TransferContext("extended", "a", "a", exemplars=0)),
    rules.outputs_of_parallel_students: (
        "fitnet",
        {},
        TransferContext("disjoint", "a", "b", parallel_students=True),
    ),
    rules.backbone_of_start: ("finetune", {}, TransferContext("same", "b", "a")),
    shared_classes_for_distillation: ("fitnet", {"form": "two-stage"}, TransferContext("disjoint", "a", "b")),
}


def test_cases_cover_every_rule() -> None:
    assert set(CASES) == {rule for name in METHODS.built_in_names() for rule in METHODS.get(name).entry.rules}


@pytest.mark.parametrize("rule", CASES, ids=lambda rule: rule.__name__)
def test_rule_refuses_the_method_of_its_case(rule: rules.Rule) -> None:
    name, settings, context = CASES[rule]
    method = METHODS.get(name).entry
    reason = rule(method.traits(method.Settings(**settings)), context)
    assert reason
    assert method.skip_reason(context, method.Settings(**settings)) == reason
    pkt = METHODS.get("pkt").entry
    if rule in pkt.rules:
        assert rule(pkt.traits(pkt.Settings()), context) is None
