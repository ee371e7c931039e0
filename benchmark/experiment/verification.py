"""Repeat a recorded run and compare the results bit for bit."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmark.data.published import PublishedDataset, data_set, open_data_set
from benchmark.errors import InputError
from benchmark.experiment.labels import label_of
from benchmark.experiment.measurement import measure
from benchmark.experiment.planning import Plan, make_plan
from benchmark.experiment.request import Request
from benchmark.records.run_label import parse_label
from benchmark.records.schema import Record, determined
from benchmark.settings import SECTIONS
from benchmark.system.progress import Progress, Silent


@dataclass(frozen=True)
class Reproduction:
    """The result of repeating a run."""

    equal: bool
    """True if all determined fields and all arrays are equal bit for bit."""
    lines: tuple[str, ...]
    """The result in words, with a line for each difference."""


def plan_from_record(record: Record, data_root: Path, teacher: str | None = None, dataset: str | None = None) -> Plan:
    """Return the plan of a recorded run.

    Args:
        record: the record.
        data_root: the folder of data sets.
        teacher: the weights file of a pretrained teacher; a record holds its name and hash only.
        dataset: the data set, such as ``folder:PATH``; None is that of the record. The images of a user's folder are
            found in the data root by their fingerprint.

    Raises:
        InputError: this version would run something else; the message lists the differences.
    """
    config = record["config"]
    named = {**record.get("beside", {}), **config}
    files = {} if teacher is None else {named["teacher"]["backbone"]: teacher}
    overrides = [
        f"{section}.{name}={files.get(value, value) if name == 'backbone' else value}"
        for section in SECTIONS
        for name, value in named.get(section, {}).items()
        if not (name == "name" and section in ("protocol", "method"))
    ]
    preset, _ = parse_label(str(record["preset"]))
    facts = record.get("data", {})
    is_own = record["dataset"].startswith("folder:")
    name = dataset or (record["dataset"] if is_own else facts.get("name", record["dataset"]))
    request = Request(record["protocol"], record["method"], name, preset, tuple(overrides), complete=True)
    loader = data_set(name)
    if is_own and isinstance(loader, PublishedDataset):
        loader = dataclasses.replace(loader, needs=facts.get("import", {}))
    plan = make_plan(request, data_root, opened={name: open_data_set(loader, data_root, Silent())} if is_own else None)
    spec = plan.spec(record["seed"])
    recorded = config["dataset"]["fingerprint"]
    if dataset is not None and plan.data.fingerprint != recorded:
        raise InputError(
            f"{dataset} is not the data set that {record['key'][:12]} records: its fingerprint is "
            f"{plan.data.fingerprint[:8]}, the recorded one {recorded[:8]}"
        )
    if spec.key != record["key"]:
        differences = "; ".join(_differences("", config, spec.config()))
        raise InputError(f"this version would not run what {record['key'][:12]} records: {differences}")
    return plan


def reproduce(
    record: Record,
    arrays: Mapping[str, npt.NDArray[Any]],
    data_root: Path,
    device: str,
    progress: Progress,
    *,
    teacher: str | None = None,
    dataset: str | None = None,
    fresh_teacher: bool,
) -> Reproduction:
    """Measure a recorded run again and compare the results bit for bit. Nothing is saved.

    Args:
        record: the record.
        arrays: its arrays by name.
        data_root: the folder of data sets and trained teachers.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        progress: shows the work.
        teacher: the weights file of a pretrained teacher.
        dataset: the data set, such as ``folder:PATH``; None is that of the record.
        fresh_teacher: whether to train the teacher again even if a trained one is stored.

    Raises:
        InputError: this version would run something else.
    """
    from benchmark.training import TeacherStore, select_device

    label = label_of(record)
    plan = plan_from_record(record, data_root, teacher, dataset)
    spec = plan.spec(record["seed"])
    with tempfile.TemporaryDirectory() as scratch:
        teachers = TeacherStore(Path(scratch) if fresh_teacher else data_root / "teachers")
        precision = record["environment"]["precision"]
        repeated, repeated_arrays = measure(plan, spec, teachers, select_device(device, precision), progress)
    repeated = json.loads(json.dumps(repeated))
    lines = [
        *_differences("", determined(record), determined(repeated)),
        *_array_differences(arrays, repeated_arrays),
    ]
    name = record["key"][:12]
    if not lines and label != record["preset"]:
        line = f"{name}: equal bit for bit, but it is called {record['preset']}, and its settings are {label}"
        return Reproduction(False, (line,))
    if not lines:
        score = f": {record['metric']} {100 * record['value']:.2f} %" if record["status"] == "done" else ""
        return Reproduction(True, (f"{name}: equal bit for bit, {len(arrays)} arrays{score}",))
    environment = _differences("", record["environment"], repeated["environment"])
    lines += [f"environment: {line}" for line in environment]
    causes = list(_causes(record, repeated)) or ["none is known: same method source, processor and packages"]
    return Reproduction(False, (f"{name}: differs; cause: {'; '.join(causes)}", "differences (recorded, now):", *lines))


_CAUSES = (
    ("precision", ("precision",)),
    ("device", ("device", "gpu")),
    ("compilation", ("compiled",)),
    ("processor", ("cpu", "cpu_model", "instruction_set")),
    ("number of threads", ("threads",)),
    ("packages", ("torch", "torchvision", "numpy", "scipy")),
    ("this suite's code", ("benchmark", "commit")),
)
"""What may change results in the last bits or more, the likeliest first, with its fields in the environment."""


def _causes(recorded: Record, repeated: Record) -> Iterator[str]:
    """Yield what differs between two runs beside their results. A field that either lacks is passed over."""
    if None not in (was := [r.get("method_sha256") for r in (recorded, repeated)]) and was[0] != was[1]:
        yield f"the source file of method {recorded['method']} has changed"
    old, new = recorded["environment"], repeated["environment"]
    for cause, fields in _CAUSES:
        if changed := [name for name in fields if name in old and name in new and old[name] != new[name]]:
            words = (f"{' '.join(str(env[name]) for name in changed)}" for env in (old, new))
            yield f"{cause} ({', now '.join(words)})"


def _differences(path: str, recorded: Any, repeated: Any) -> Iterator[str]:
    """Yield a line for each value, at any depth, in which two JSON values differ."""
    if isinstance(recorded, dict) and isinstance(repeated, dict):
        for name in dict.fromkeys([*recorded, *repeated]):
            yield from _differences(f"{path}.{name}".lstrip("."), recorded.get(name), repeated.get(name))
    elif isinstance(recorded, list) and isinstance(repeated, list) and len(recorded) == len(repeated):
        for i, (a, b) in enumerate(zip(recorded, repeated, strict=True)):
            yield from _differences(f"{path}[{i}]", a, b)
    elif recorded != repeated:
        yield f"{path} {recorded} {repeated}"


def _array_differences(
    recorded: Mapping[str, npt.NDArray[Any]], repeated: Mapping[str, npt.NDArray[Any]]
) -> Iterator[str]:
    for name in dict.fromkeys([*recorded, *repeated]):
        if name not in recorded or name not in repeated:
            yield f"array {name}: only in the {'record' if name in recorded else 'repetition'}"
            continue
        old, new = recorded[name], repeated[name]
        if old.shape != new.shape or old.dtype != new.dtype:
            yield f"array {name}: {old.dtype} {old.shape}, {new.dtype} {new.shape}"
        elif old.tobytes() != new.tobytes():
            yield f"array {name}: {np.count_nonzero(old != new)} of {old.size} entries differ"
