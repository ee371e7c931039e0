"""Every method on every protocol: without training for all of them, and one full run of each kind of method."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.methods import METHODS
from protocols import PROTOCOLS

from ..smoke import kind_of, methods_of_each_kind, run_plan, skip_reason, smoke_plan

PROTOCOLS_RUN = (
    "distill-cross", "distill-overlap50", "fewshot-5way1shot", "incremental-1step-0exemplars",
    "incremental-1step-3exemplars", "middleshot-3way2shot",
)  # fmt: skip
RUNS = [(protocol, method) for protocol in PROTOCOLS_RUN for method in methods_of_each_kind(protocol)]


def expected_reason(protocol: str, method: str) -> str | None:
    """Return a phrase of the reason why a method does not apply, from what the method declares."""
    entry = METHODS.get(method).entry
    family, needs = protocol.partition("-")[0], entry.needs
    if needs.labels == "same" and protocol not in ("distill-same", "distill-overlap100") and family != "fewshot":
        return "own label space"
    if needs.labels == "overlap" and (family == "middleshot" or protocol == "distill-cross"):
        return "share no class"
    if needs.labels == "extended" and family != "incremental":
        return "the incremental protocols do that"
    if needs.learns == "episodes" and family != "fewshot":
        return "the fewshot protocols evaluate on them"
    if protocol == "incremental-1step-0exemplars" and entry.incremental_defaults.head != "net":
        return "without exemplars"
    if protocol == "incremental-1step-0exemplars" and needs.exemplars:
        return "exemplars of old classes"
    if family == "middleshot" and (needs.taps or needs.weights or kind_of(method).has_connector):
        return "more than their embeddings and logits"
    if family == "middleshot" and needs.trains == "head":
        return "logistic-regression fits them"
    return None


@pytest.mark.parametrize("protocol", PROTOCOLS.names())
def test_skip_reason_of_every_method_follows_what_it_declares(protocol: str) -> None:
    for method in METHODS.names():
        expected, reason = expected_reason(protocol, method), skip_reason(protocol, method)
        assert (reason is None) == (expected is None), (method, reason)
        assert reason is None or (expected is not None and expected in reason), (method, reason)


def test_every_method_belongs_to_a_kind_that_is_run() -> None:
    run = {kind_of(method) for _, method in RUNS}
    assert {kind_of(method) for method in METHODS.names()} == run
    run_incremental = {kind_of(method, incremental=True) for protocol, method in RUNS if "incremental" in protocol}
    applicable = [name for name in METHODS.names() if skip_reason("incremental-1step-3exemplars", name) is None]
    assert {kind_of(method, incremental=True) for method in applicable} == run_incremental


@pytest.mark.parametrize(("protocol", "method"), RUNS)
def test_one_method_of_each_kind_runs(teachers: Path, protocol: str, method: str) -> None:
    entry = METHODS.get(method).entry
    result = run_plan(teachers, smoke_plan(teachers, protocol, method, limit_steps=3))
    arrays, metadata = result.arrays, result.student.metadata
    if "predicted_student" in arrays:
        assert result.score.value == pytest.approx(np.mean(arrays["predicted_student"] == arrays["labels"]))
    else:
        queries = result.facts["queries_per_episode"]
        assert result.score.value == pytest.approx(np.mean(arrays["correct_student"] / queries))
        assert result.n == {"fewshot": 60, "middleshot": 6}[protocol.partition("-")[0]]
    references = {
        "distill": {"teacher_ncm", "chance"}, "fewshot": {"teacher", "pixels"}, "middleshot": {"teacher", "pixels"},
        "incremental": {"old", "new", "harmonic", "teacher_old", "old_within_old"},
    }  # fmt: skip
    own_head = {"common_head"} if entry.needs.learns == "episodes" else set()
    assert set(result.references) == references[protocol.partition("-")[0]] | own_head
    assert metadata["steps"] == (3 if entry.needs.trains != "nothing" else 0)
    assert metadata["start"] == entry.starts("teacher" if protocol.startswith("incremental") else "fresh")
    assert metadata.get("students", 1) == (6 if protocol.startswith("middleshot") else 1)
    assert all(torch.isfinite(parameter).all() for parameter in result.student.network.parameters())
