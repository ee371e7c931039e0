"""Short runs for tests: small networks, few steps, and one method of each kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from benchmark.experiment.planning import Plan, make_plan
from benchmark.experiment.request import Request
from benchmark.methods import METHODS, IncrementalDefaults, Method
from benchmark.system.progress import Silent
from benchmark.training import TeacherStore, Trainer, select_device
from protocols import PROTOCOLS, Result

DEVICE = select_device("cpu", "float32")
BACKBONE = "conv4-16"
NETWORKS = (f"student.backbone={BACKBONE}", f"teacher.backbone={BACKBONE}")
SETTINGS = {
    "fewshot": ("protocol.episodes=60", "protocol.queries=4", "training.batch_size=16", "teacher.batch_size=16"),
    "distill": ("training.batch_size=16", "teacher.batch_size=16"),
    "incremental": ("training.batch_size=16", "teacher.batch_size=16"),
    "middleshot": (
        "protocol.tasks=6", "protocol.queries=4", "protocol.crops=2", "training.batch_size=6", "teacher.batch_size=16",
    ),
}  # fmt: skip
"""Settings of a short run, by family of protocols."""


def smoke_plan(root: Path, protocol: str, method: str = "ce", *overrides: str, **options: Any) -> Plan:
    """Plan a run on the synthetic set.

    Args:
        root: Data root.
        protocol: Name of the protocol.
        method: Name of the method.
        overrides: Settings that replace those of ``SETTINGS``.
        options: More arguments of ``Request``, such as ``limit_steps``.
    """
    settings = (*NETWORKS, *SETTINGS[protocol.partition("-")[0]], *overrides)
    by_name = {text.partition("=")[0]: text for text in settings}
    return make_plan(Request(protocol, method, "tiny", overrides=tuple(by_name.values()), **options), root)


def make_trainer(root: Path, plan: Plan, seed: int = 0) -> Trainer:
    """Make the trainer of a run; its teachers are stored under ``root``."""
    return Trainer(plan.spec(seed), TeacherStore(root / "teachers"), DEVICE, Silent())


def run_plan(root: Path, plan: Plan, seed: int = 0) -> Result:
    """Run the protocol of a plan without writing a record."""
    return plan.protocol.run(plan.data, make_trainer(root, plan, seed), seed)


def skip_reason(protocol: str, method: str) -> str | None:
    """Return why a method does not apply to a protocol, if both networks have one backbone."""
    match = PROTOCOLS.get(protocol)
    start = match.entry.presets["quick"]["student"].get("start", "fresh")
    context = match.entry.transfer_context(match.fields, match.entry.Settings(), BACKBONE, BACKBONE, start)
    return METHODS.get(method).entry.skip_reason(context)


class Kind(NamedTuple):
    """Everything about a method that chooses its path through the trainer."""

    learns: str
    trains: str
    start: str
    reads_teacher: bool
    reads_stages: bool
    reads_train_embeddings: bool
    has_connector: bool
    stages: int
    incremental_defaults: IncrementalDefaults | None


def kind_of(method: str, *, incremental: bool = False) -> Kind:
    """Return the kind of a method; what it does for old classes counts only if ``incremental``."""
    entry = METHODS.get(method).entry
    needs = entry.needs
    return Kind(
        needs.learns, needs.trains, needs.start, needs.teacher, bool(needs.taps), needs.train_embeddings,
        entry.build_connector is not Method.build_connector, len(entry.stages_for(entry.Settings())),
        entry.incremental_defaults if incremental else None,
    )  # fmt: skip


def methods_of_each_kind(protocol: str) -> list[str]:
    """Return the first method of each kind that applies to a protocol."""
    incremental = protocol.startswith("incremental")
    chosen: dict[Kind, str] = {}
    for method in METHODS.names():
        if skip_reason(protocol, method) is None:
            chosen.setdefault(kind_of(method, incremental=incremental), method)
    return list(chosen.values())
