"""The schema of a record: what a run determines of it, and how one is read and judged."""

from __future__ import annotations

import copy
import json
import math
import re
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmark.errors import InputError, os_reason
from benchmark.hashing import content_key, content_name
from benchmark.records.run_label import NO_TEACHER, parse_label
from benchmark.system.files import NotAFile, read_file

SCHEMA = 1
Record = dict[str, Any]
"""One run as JSON values. ``benchmark.experiment.measurement.measure`` makes them."""

DETERMINED = ("status", "metric", "value", "n", "intervals", "references", "facts", "history", "error")
"""The fields that a run determines; the others depend on the machine: time, memory, environment."""

MAX_BYTES = 32 << 20
"""The largest record that is read."""
MAX_ARRAY_BYTES = 1 << 30
"""The most bytes that the arrays of one record take, as a file and in memory."""
_MAX_INTEGER = 2**63
_DEEPEST = 16


def determined(record: Record) -> Record:
    """Return the fields of a record that its config determines; a field that the record lacks is None."""
    return {name: record.get(name) for name in DETERMINED}


def apart(record: Record) -> Record:
    """Return a record without what was measured of the teacher beside its run; it keeps the record's class."""
    left = copy.copy(record)
    references = record.get("references", {}).items()
    left |= {"references": {n: score for n, score in references if not n.startswith("teacher")}, "teacher_facts": {}}
    return left


class DamagedRecord(InputError):
    """A file that does not hold a whole record."""

    def __init__(self, path: Path, reason: object) -> None:
        super().__init__(f"record {path} is damaged ({reason}); repeat its run: it renames the file and replaces it")
        self.path = path
        self.reason = reason


def key_of(name: str) -> str:
    """The digits of the key in a record's file name."""
    return Path(name).stem.rpartition(".")[2]


def read_record(path: Path) -> Record:
    """The record in a file.

    Raises:
        DamagedRecord: the file does not hold a whole record, or that of another run than its name says.
        InputError: the file cannot be read, or its record has another schema.
    """
    try:
        content = read_file(path, MAX_BYTES)
    except NotAFile as error:
        raise DamagedRecord(path, error.strerror) from None
    except FileNotFoundError as error:
        raise DamagedRecord(path, error) from None
    except OSError as error:  # says nothing about the content
        raise InputError(f"record {path} cannot be read ({os_reason(error)})") from None
    return parse_record(content, path)


def parse_record(content: bytes, path: Path) -> Record:
    """The record in a JSON text. ``path`` names it in errors, which are those of ``read_record``."""
    try:
        record = json.loads(content, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise DamagedRecord(path, error) from None
    if not isinstance(record, dict):
        raise DamagedRecord(path, "it lacks schema")
    if record.get("schema", SCHEMA) != SCHEMA:
        raise InputError(
            f"record {path} has schema {reprlib.repr(record['schema'])}, this version reads {SCHEMA}; update the "
            "package"
        )
    if reason := _not_plain(record, "record") or _invalid(record) or _contradiction(record):
        raise DamagedRecord(path, reason)
    checksum = record.pop("sha256")
    if checksum != content_key(record):
        raise DamagedRecord(path, "its checksum is not the recorded one")
    if re.fullmatch("[0-9a-f]{12}", key_of(path.name)) and not record["key"].startswith(key_of(path.name)):
        raise DamagedRecord(path, "its key is not that of its name")
    return record


def _not_plain(value: Any, name: str, depth: int = 0) -> str | None:
    """Describe the first value, at any depth, that no record has: an infinite or huge number, text that is none."""
    if isinstance(value, str):
        return None if _is_text(value) else f"its {name} is {reprlib.repr(value)}"
    if isinstance(value, int | float):
        plain = math.isfinite(value) if isinstance(value, float) else abs(value) < _MAX_INTEGER
        return None if plain else f"its {name} is {'not finite' if isinstance(value, float) else 'too large'}"
    if value is not None and depth == _DEEPEST:
        return f"its {name} is nested too deep"
    parts = value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ())
    for key, part in parts:
        if isinstance(key, str) and not _is_text(key):
            return f"its {name} has the key {reprlib.repr(key)}"
        if reason := _not_plain(part, str(key), depth + 1):
            return reason
    return None


def _is_text(text: str) -> bool:
    """Whether text can be written: JSON holds halves of surrogate pairs, UTF-8 does not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _invalid(record: Record) -> str | None:
    """Name the fields that a record lacks, else describe the first invalid one; None if all is well."""
    from pydantic import ValidationError

    from benchmark.records.fields import model_of  # importing pydantic takes longer than shell completion may

    try:
        model_of(record.get("status")).validate_python(record)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
    else:
        return None if "schema" in record else "it lacks schema"
    missing = sorted(".".join(map(str, problem["loc"])) for problem in problems if problem["type"] == "missing")
    if missing:
        return f"it lacks {', '.join(missing)}"
    place = [part for part in map(str, problems[0]["loc"]) if part != "[key]"]
    return f"its {'.'.join(place)} is {reprlib.repr(problems[0]['input'])}"


def _contradiction(record: Record) -> str | None:
    """Describe the first label of a record that its config does not bear out, or return None."""
    config = record["config"]
    if content_key(config) != record["key"]:
        return "its key is not that of its config"
    dataset = config["dataset"]["name"]
    if content_name(record["dataset"]) != dataset:
        return f"its dataset is {reprlib.repr(record['dataset'])}, that of its config {reprlib.repr(dataset)}"
    for name, of_config in _labels(record):
        if of_config != record[name]:
            return f"its {name} is {reprlib.repr(record[name])}, that of its config {reprlib.repr(of_config)}"
    for setting, value, of_config in _named_settings(record):
        if value != of_config:
            return f"its preset names {setting}={value}, its config has {reprlib.repr(of_config)}"
    if ("teacher" in config) == ("beside" in record):
        return "its config and what it was measured beside do not go together"
    precision = config["training"].get("precision", "auto")
    if precision not in ("auto", record["environment"]["precision"]):
        return f"its precision is {record['environment']['precision']!r}, that of its config {precision!r}"
    return None


def _labels(record: Record) -> Iterator[tuple[str, Any]]:
    """Yield the fields that repeat a value of the config, with that value."""
    config = record["config"]
    yield from ((name, config[name]["name"]) for name in ("protocol", "method"))
    yield "backbone", config["student"]["backbone"]
    yield "teacher", config["teacher"]["backbone"] if "teacher" in config else NO_TEACHER
    yield "seed", config["seed"]


def _named_settings(record: Record) -> Iterator[tuple[str, str, str]]:
    """Yield the settings that the preset's label names, as text, with their values in the config.

    A config leaves out settings at their default, so one that it lacks is passed over.
    """
    config = record["config"]
    for item in parse_label(record["preset"])[1]:
        setting, _, value = item.partition("=")
        section, _, name = setting.partition(".")
        if name in config.get(section, {}):
            is_seed = setting == "teacher.seed" and value == "run"
            yield setting, str(config["seed"]) if is_seed else value, str(config[section][name])


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
