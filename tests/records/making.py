"""Whole records for tests: labels follow from the config, the key is its hash."""

from __future__ import annotations

from typing import Any

from benchmark.hashing import content_key
from benchmark.records.run_label import NO_TEACHER, parse_label
from benchmark.records.schema import SCHEMA


def make_config(
    protocol: str = "fewshot-5way1shot",
    method: str = "kd",
    seed: int = 0,
    *,
    dataset: str = "tiny",
    preset: str = "quick",
    backbone: str = "conv4-16",
    teacher: str = "conv4-64",
    teacher_seed: int = 0,
) -> dict[str, Any]:
    """Return a config with these labels. Settings that the preset's label names have their value as text."""
    config: dict[str, Any] = {
        "protocol": {"name": protocol},
        "dataset": {"name": dataset, "fingerprint": "00"},
        "method": {"name": method},
        "student": {"backbone": backbone, "start": "fresh"},
        "teacher": {"backbone": teacher, "seed": teacher_seed},
        "training": {},
        "seed": seed,
        "versions": {"protocol": 1, "method": 1, "training": 1},
    }
    for item in parse_label(preset)[1]:
        setting, _, value = item.partition("=")
        section, _, name = setting.partition(".")
        config[section][name] = seed if (setting, value) == ("teacher.seed", "run") else value
    if teacher == NO_TEACHER:
        del config["teacher"]
    return config


def make_record(
    protocol: str = "fewshot-5way1shot", method: str = "kd", seed: int = 0, value: float = 0.5, **changes: Any
) -> dict[str, Any]:
    """Return a finished record.

    Args:
        protocol: the protocol.
        method: the method.
        seed: the seed.
        value: the measured value.
        changes: labels, such as ``teacher``, or other fields of the record.
    """
    names = ("dataset", "preset", "backbone", "teacher", "teacher_seed")
    labels = {name: changes.pop(name) for name in names if name in changes}
    config = changes.pop("config", None) or make_config(protocol, method, seed, **labels)
    teacher = config.get("teacher", {"backbone": NO_TEACHER})["backbone"]
    beside = {} if "teacher" in config else {"beside": {"teacher": {"backbone": "conv4-64"}}}
    return {
        "schema": SCHEMA,
        "key": content_key(config),
        "status": "done",
        "provenance": "measured",
        "protocol": config["protocol"]["name"],
        "dataset": config["dataset"]["name"],
        "preset": labels.get("preset", "quick"),
        "method": config["method"]["name"],
        "backbone": config["student"]["backbone"],
        "teacher": teacher,
        "seed": config["seed"],
        "data": {"name": config["dataset"]["name"]},
        "config": config,
        **beside,
        "environment": {"cpu": "one", "gpu": None, "device": "cpu", "threads": 1, "precision": "float32"},
        "started": "2026-01-01",
        "metric": "accuracy",
        "value": value,
        "n": 100,
        "intervals": {"image": {"half_width": 0.02, "n": 100}},
        "references": {"chance": {"value": 0.01, "intervals": {}}},
        "student_facts": {
            "backbone": config["student"]["backbone"], "start": "fresh", "steps": 300, "seconds": 9.0,
        },
        "teacher_facts": {"backbone": "conv4-64" if beside else teacher, "seconds": 5.0},
        "facts": {"queries_per_episode": 25},
        "history": [{"stage": "train", "step": 10.0, "ce": 2.5}],
        "seconds": 10.0,
        "peak_memory_mb": 500.0,
        **changes,
    }  # fmt: skip


def make_failed(protocol: str = "fewshot-5way1shot", method: str = "kd", seed: int = 0, **changes: Any) -> Any:
    """Return a record of a run that failed."""
    record = make_record(protocol, method, seed, **changes)
    measured = ("metric", "value", "n", "intervals", "references", "student_facts", "teacher_facts", "facts", "history")
    left = {name: part for name, part in record.items() if name not in measured}
    return {"error": "ValueError: no", **left, "status": "failed"}
