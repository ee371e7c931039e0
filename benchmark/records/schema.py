"""The schema of a record: its fields, what a run determines of them, and how one is read and judged."""

from __future__ import annotations

import json
import reprlib
from pathlib import Path
from typing import Any

from benchmark.errors import InputError, os_reason
from benchmark.hashing import content_key

SCHEMA = 1
Record = dict[str, Any]
"""One run as JSON values. ``benchmark.experiment.measurement.measure`` makes them."""

REQUIRED = frozenset({
    "schema", "key", "status", "provenance", "protocol", "dataset", "preset", "method", "backbone", "teacher", "seed",
})  # fmt: skip
"""The fields that every record has."""

REQUIRED_WHEN_DONE = frozenset({"metric", "value", "intervals", "references"})
"""The further fields of a finished run."""

DETERMINED = ("status", "metric", "value", "n", "intervals", "references", "facts", "history", "error")
"""The fields that a run determines; the others depend on the machine: time, memory, environment."""


def determined(record: Record) -> Record:
    """Return the fields of a record that its config determines; a field that the record lacks is None."""
    return {name: record.get(name) for name in DETERMINED}


class DamagedRecord(InputError):
    """A file that does not hold a whole record."""

    def __init__(self, path: Path, reason: object) -> None:
        super().__init__(f"record {path} is damaged ({reason}); repeat its run: it renames the file and replaces it")
        self.path = path
        self.reason = reason


def read_record(path: Path) -> Record:
    """The record in a file.

    Raises:
        DamagedRecord: the file does not hold a whole record.
        InputError: the file cannot be read, or its record has another schema.
    """
    try:
        content = path.read_bytes()
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
            f"record {path} has schema {record['schema']!r}, this version reads {SCHEMA}; update the package"
        )
    if reason := _missing(record) or _invalid(record):
        raise DamagedRecord(path, reason)
    checksum = record.pop("sha256", None)  # the oldest records have none
    if checksum is not None and checksum != content_key(record):
        raise DamagedRecord(path, "its checksum is not the recorded one")
    return record


def _missing(record: Record) -> str | None:
    """Name the required fields that a record lacks, or return None."""
    required = REQUIRED | REQUIRED_WHEN_DONE if record.get("status") == "done" else REQUIRED
    missing = sorted(required - set(record))
    return f"it lacks {', '.join(missing)}" if missing else None


def _invalid(record: Record) -> str | None:
    """Describe the first invalid field of a complete record, or return None."""
    texts = REQUIRED - {"schema", "seed"} | ({"arrays"} & set(record))
    kinds: dict[str, type | tuple[type, ...]] = dict.fromkeys(sorted(texts), str)
    kinds["seed"] = int
    if record["status"] == "done":
        kinds |= {"metric": str, "value": (int, float), "intervals": dict, "references": dict}
    for name, kind in kinds.items():
        if not isinstance(record[name], kind) or isinstance(record[name], bool):
            return f"its {name} is {reprlib.repr(record[name])}"
    if "config" in record and content_key(record["config"]) != record["key"]:
        return "its key is not that of its config"
    return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
