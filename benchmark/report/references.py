"""What a method is read against: chance, the teacher and nearest means; and the facts that a table's heading states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from benchmark.errors import InputError
from benchmark.records.schema import Record
from benchmark.report.aggregation import MethodResult
from benchmark.statistics import Interval, seed_interval

REFERENCES = {
    "chance": "chance",
    "teacher": "teacher",
    "teacher_ncm": "nearest mean on teacher",
    "pixels": "nearest mean on pixels",
}
"""The names that tables show, by the names in records, in the order of tables."""


def reference_intervals(results: Iterable[MethodResult]) -> dict[str, Interval]:
    """Return the accuracy of every reference under one set of conditions, by the name that tables show.

    Args:
        results: All methods under these conditions.

    Returns:
        The mean over all seeds that a method has finished, in [0, 1], with its Student t interval. Chance has no
        interval. A reference that the records do not hold is left out.
    """
    by_seed: dict[str, dict[int, float]] = {name: {} for name in REFERENCES}
    for seed, record in _records(results):
        for name, value in reference_values(record).items():
            if name in REFERENCES:
                by_seed[name].setdefault(seed, value)
    intervals = {}
    for name, values in by_seed.items():
        if values and name == "chance":
            intervals[REFERENCES[name]] = Interval("seed", next(iter(values.values())), None, len(values))
        elif values:
            intervals[REFERENCES[name]] = seed_interval([values[seed] for seed in sorted(values)])
    return intervals


def setting_facts(results: Iterable[MethodResult]) -> list[str]:
    """Return the facts that the heading of a group's table states, see ``record_facts``."""
    facts = [record_facts(record) for _, record in _records(results)]
    return max(facts, key=len, default=[])  # the first of the longest: a run without a teacher states fewer


def record_facts(record: Record) -> list[str]:
    """Return the facts of a finished run that a table's heading states, as ``["2 images per class", "42 classes"]``."""
    facts, teacher = record.get("facts", {}), record.get("teacher_facts", {})
    lines = []
    if "images_per_class" in facts:
        count = facts["images_per_class"] or "all"
        lines.append(f"{count} image{'s' * (count != 1)} per class")
    if "exemplars_per_class" in facts:
        lines.append(f"{facts['exemplars_per_class']} exemplars per old class")
    if classes := _classes(facts):
        lines.append(f"{classes} classes")
    if teacher.get("accuracy") is not None:
        lines.append(f"teacher {100 * teacher['accuracy']:.1f} % on its own classes")
    return lines


def reference_values(record: Record) -> dict[str, float]:
    """Return the references of a finished run in [0, 1], by their names in records.

    Chance follows from the number of classes if the record does not hold it.
    """
    values = {name: float(score["value"]) for name, score in record.get("references", {}).items()}
    classes = _classes(record.get("facts", {})) or _ways(record)
    return {**values, "chance": values.get("chance", 1 / classes)} if classes else values


def judged_by(records: Iterable[Record], metric: str | None) -> list[Record]:
    """Return records whose value is another measure of their runs, without the arrays, which belong to the accuracy.

    Args:
        records: Records; those that lack the measure are left out, failed ones are kept.
        metric: Name of the measure; None keeps the records as they are.

    Raises:
        InputError: No finished run has it; the message names those that there are.
    """
    found = list(records)
    done = [record for record in found if record["status"] == "done"]
    known = dict.fromkeys(name for record in done for name in (record["metric"], *record["references"]))
    if metric is not None and done and metric not in known:
        raise InputError(f"no run here has the measure {metric!r}; there are {', '.join(known)}")
    if metric is None:
        return found
    chosen = [record for record in found if record["status"] != "done" or record["metric"] == metric]
    return chosen + [
        {name: value for name, value in record.items() if not name.startswith("arrays")}
        | {"metric": metric, **record["references"][metric]}
        for record in done
        if record["metric"] != metric and metric in record["references"]
    ]


def _records(results: Iterable[MethodResult]) -> list[tuple[int, Record]]:
    return sorted(((seed, run) for result in results for seed, run in result.done.items()), key=lambda item: item[0])


def _classes(facts: Mapping[str, Any]) -> int:
    """Return the number of classes that a method tells apart; 0 if the facts do not state it."""
    return int(facts.get("classes") or facts.get("classes_old", 0) + facts.get("classes_new", 0))


def _ways(record: Record) -> int:
    from protocols import PROTOCOLS

    name = str(record["protocol"])
    fields: Mapping[str, Any] = PROTOCOLS.get(name).fields if name in PROTOCOLS else {}
    return int(fields.get("way", fields.get("ways", 0)))
