"""Carrying a recorded run out again, to see whether it gives the same."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmark.errors import InputError
from benchmark.experiment.runner import Plan, Request, measure
from benchmark.records.store import Record
from benchmark.settings import SECTIONS

if TYPE_CHECKING:
    from benchmark.system.progress import Progress

_COMPARED = ("status", "metric", "value", "n", "intervals", "references", "facts", "history", "error")
"""What a run determines; time, memory and environment are of the machine."""


@dataclass(frozen=True)
class Repeated:
    """What came of a repetition: whether all is equal bit for bit, and the lines that say it."""

    equal: bool
    lines: tuple[str, ...]


def replan(record: Record, data_root: Path, teacher: str | None = None) -> Plan:
    """The plan of a recorded run. Where this version would run something else, ``InputError`` says what differs.

    ``teacher``: the file of its pretrained teacher's weights, of which a record has the name and the content's hash.
    """
    config = record["config"]
    stands_for = {} if teacher is None else {config["teacher"]["backbone"]: teacher}
    overrides = [
        f"{section}.{name}={stands_for.get(value, value) if name == 'backbone' else value}"
        for section in SECTIONS
        for name, value in config[section].items()
        if not (name == "name" and section in ("protocol", "method"))
    ]
    preset = str(record["preset"]).partition("+")[0]
    dataset = record.get("data", {}).get("name", record["dataset"])
    request = Request(record["protocol"], record["method"], dataset, preset, tuple(overrides), complete=True)
    plan = Plan(request, data_root)
    spec = plan.spec(record["seed"])
    if spec.key != record["key"]:
        differences = "; ".join(_differences("", config, spec.config()))
        raise InputError(f"this version would not run what {record['key'][:12]} records: {differences}")
    return plan


def repeat(
    record: Record,
    arrays: Mapping[str, npt.NDArray[Any]],
    data_root: Path,
    device: str,
    progress: Progress,
    *,
    teacher: str | None = None,
    fresh_teacher: bool,
) -> Repeated:
    """Measure a recorded run anew and compare everything it determines, with its arrays, bit by bit."""
    from benchmark.training import TeacherStore, select_device

    plan = replan(record, data_root, teacher)
    spec = plan.spec(record["seed"])
    with tempfile.TemporaryDirectory() as scratch:
        bank = TeacherStore(Path(scratch) if fresh_teacher else data_root / "teachers")
        chosen = select_device(device, spec.training.precision)
        again, found = measure(plan, spec, bank, chosen, progress)
    again = json.loads(json.dumps(again))
    mine, other = ({name: r.get(name) for name in _COMPARED} for r in (record, again))
    lines = [*_differences("", mine, other), *_array_differences(arrays, found)]
    if not lines:
        told = f": {record['metric']} {100 * record['value']:.2f} %" if record["status"] == "done" else ""
        return Repeated(True, (f"{record['key'][:12]}: equal bit for bit, {len(arrays)} arrays{told}",))
    before, now = record["environment"], again["environment"]
    lines += [f"environment: {line}" for line in _differences("", before, now)]
    return Repeated(False, (f"{record['key'][:12]}: differs (recorded, now)", *lines))


def _differences(where: str, mine: Any, other: Any) -> Iterator[str]:
    """A line for every value, however deep, in which two JSON values differ."""
    if isinstance(mine, dict) and isinstance(other, dict):
        for name in dict.fromkeys([*mine, *other]):
            yield from _differences(f"{where}.{name}".lstrip("."), mine.get(name), other.get(name))
    elif isinstance(mine, list) and isinstance(other, list) and len(mine) == len(other):
        for i, (a, b) in enumerate(zip(mine, other, strict=True)):
            yield from _differences(f"{where}[{i}]", a, b)
    elif mine != other:
        yield f"{where} {mine} {other}"


def _array_differences(mine: Mapping[str, npt.NDArray[Any]], other: Mapping[str, npt.NDArray[Any]]) -> Iterator[str]:
    for name in dict.fromkeys([*mine, *other]):
        if name not in mine or name not in other:
            yield f"array {name}: only in the {'record' if name in mine else 'repetition'}"
        elif mine[name].shape != other[name].shape or mine[name].dtype != other[name].dtype:
            yield f"array {name}: {mine[name].dtype} {mine[name].shape}, {other[name].dtype} {other[name].shape}"
        elif mine[name].tobytes() != other[name].tobytes():
            unlike = np.count_nonzero(mine[name] != other[name])
            yield f"array {name}: {unlike} of {mine[name].size} entries differ"
