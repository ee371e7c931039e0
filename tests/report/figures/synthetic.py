"""Synthetic records of every protocol and every method that applies to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.hashing import content_key
from benchmark.records.store import Store
from benchmark.report.aggregation import group_by_method
from benchmark.report.figures import ResultSet

DISTILLED = ("ce", "at", "crd", "fitnet", "nst", "pkt", "refilled", "refilled-cvpr20", "rkd", "sp", "vid")
FROZEN = ("linear-probe", "logistic-regression", "ncm")
OUTPUTS = ("kd", "dist")
GROWING = ("finetune", "l2sp", "replay", "joint", "lwf", "icarl", "eeil", "wa", "lucir")
METHODS = {
    "distill-cross": (*DISTILLED, *FROZEN),
    "distill-overlap20": (*DISTILLED, *OUTPUTS, *FROZEN),
    "distill-overlap60": (*DISTILLED, *OUTPUTS, *FROZEN),
    "distill-same": (*DISTILLED, *OUTPUTS, "dkd", *FROZEN),
    "fewshot-5way1shot": (*DISTILLED, *OUTPUTS, "dkd", *FROZEN),
    "fewshot-5way5shot": ("ce", "refilled", "ncm"),
    "middleshot-5way1shot": ("ce", "pkt", "refilled", "refilled-cvpr20", "rkd", "finetune", "logistic-regression"),
    "middleshot-5way10shot": ("ce", "pkt", "refilled", "refilled-cvpr20", "rkd", "finetune", "logistic-regression"),
    "incremental-1step-5exemplars": (*DISTILLED, *OUTPUTS, *FROZEN, *GROWING),
}


def record(protocol: str, method: str, seed: int, value: float, **changes: Any) -> dict[str, Any]:
    """Return a finished record with the references of its protocol."""
    rng = np.random.default_rng(
        [seed, *protocol.encode("utf-8", "surrogatepass"), *method.encode("utf-8", "surrogatepass")]
    )
    frozen, grows = method in FROZEN, protocol.startswith("incremental")
    teacher = "conv4-32" if grows else "conv4-64"
    backbone = teacher if frozen or grows else "conv4-16"
    kinds = ("image",) if protocol.startswith(("distill", "incremental")) else ("episode", "class")
    intervals = {
        kind: {"half_width": 0.002 + 0.001 * (i + rng.random()), "n": 10_000 // 100**i} for i, kind in enumerate(kinds)
    }
    terms = () if method in ("ncm", "logistic-regression") else ("ce",) if method == "ce" else ("ce", method)
    stages = ("embed", "classify") if method.startswith("refilled") else ("train",)
    history = [
        {
            "stage": stages[len(stages) * i // 20],
            "step": 15.0 * (i + 1),
            **{term: (4.0 + j) * 0.8**i + 0.1 * rng.random() for j, term in enumerate(terms)},
        }
        for i in range(20 if terms else 0)
    ]
    run: dict[str, Any] = {
        "schema": 1,
        "key": content_key([protocol, method, seed, changes]),
        "status": "done",
        "provenance": "measured",
        "protocol": protocol,
        "dataset": "glyphs",
        "preset": "quick",
        "method": method,
        "backbone": backbone,
        "teacher": teacher,
        "seed": seed,
        "environment": {"cpu": "AMD EPYC", "gpu": None, "device": "cpu", "threads": 2},
        "started": "2026-01-01",
        "metric": "accuracy",
        "value": value,
        "intervals": intervals,
        "n": 10_000,
        "references": _references(protocol, value, rng),
        "student_facts": {
            "backbone": backbone,
            "start": "teacher" if frozen or grows or method == "finetune" else "fresh",
            "seconds": 0.1 if method == "ncm" else 10 + 10 * rng.random(),
        },
        "facts": {},
        "history": history,
    }
    return run | changes


def _references(protocol: str, value: float, rng: np.random.Generator) -> dict[str, Any]:
    if protocol.startswith("distill"):
        values = {"teacher_ncm": 0.8, "chance": 0.01}
    elif protocol.startswith("incremental"):
        new = value + 0.05 + 0.05 * rng.random()
        old = 2 * value - new
        harmonic = 2 * old * new / (old + new)
        values = {"old": old, "new": new, "teacher_old": 0.93, "old_within_old": 0.9, "harmonic": harmonic}
    else:
        values = {"teacher": 0.85, "pixels": 0.62}
    return {name: {"value": value, "intervals": {}} for name, value in values.items()}


def arrays(run: dict[str, Any]) -> dict[str, Any]:
    """Return the arrays of a distill-* record; none for other protocols."""
    protocol = run["protocol"]
    if not protocol.startswith("distill"):
        return {}
    rng = np.random.default_rng(run["seed"])
    labels = np.repeat(np.arange(12), 8).astype(np.int32)
    rows = np.flatnonzero(labels < 6).astype(np.int32)
    centres = rng.normal(size=(12, 16))
    projected = {
        name: (centres[labels[rows]] + noise * rng.normal(size=(len(rows), 16))).astype(np.float16)
        for name, noise in (("teacher", 0.5), ("student", 1.2))
    }
    stored = {
        "labels": labels,
        "projected": rows,
        "projected_teacher": projected["teacher"],
        "projected_student": projected["student"],
    }
    if "overlap" in protocol:
        known = rng.random(60) < 0.5
        stored["train_known"] = known
        stored["train_weights"] = np.clip(rng.normal(0.75 + 0.15 * known, 0.1), 0.54, 1).astype(np.float32)
    for name, noise in (("predicted_student", 0.4), ("predicted_teacher_ncm", 0.2)):
        wrong = rng.random(len(labels)) < noise
        stored[name] = np.where(wrong, rng.permutation(labels), labels).astype(np.int32)
    return stored


FEW = {
    "distill-cross": ("ce", "refilled", "ncm"),
    "distill-overlap60": ("ce", "kd", "refilled", "ncm"),
    "fewshot-5way1shot": ("ce", "refilled", "rkd", "ncm"),
    "fewshot-5way5shot": ("ce", "refilled", "ncm"),
    "middleshot-5way1shot": ("ce", "refilled", "finetune"),
    "middleshot-5way10shot": ("ce", "refilled", "finetune"),
    "incremental-1step-5exemplars": ("ce", "refilled", "joint", "lucir"),
}


def records(methods: Mapping[str, Sequence[str]] = FEW, seeds: Sequence[int] = (0, 1, 2)) -> list[dict[str, Any]]:
    """Return records of the methods of each protocol, with accuracies that vary by a few points."""
    runs = []
    for protocol, names in methods.items():
        rng = np.random.default_rng([*protocol.encode("utf-8", "surrogatepass")])
        for method in names:
            level = 0.6 + 0.2 * rng.random()
            runs += [record(protocol, method, seed, level + 0.01 * rng.normal()) for seed in seeds]
    return runs


def results(records: Iterable[dict[str, Any]], root: Path) -> ResultSet:
    """Return the results of records, with a store of the arrays of distill-* records."""
    store, runs = Store(root), []
    root.mkdir(parents=True, exist_ok=True)
    for run in records:
        run_arrays = arrays(run)
        if run_arrays:
            run = run | {"arrays": store.save(run, run_arrays).with_suffix(".npz").name}
        runs.append(run)
    return ResultSet(group_by_method(runs), store)
