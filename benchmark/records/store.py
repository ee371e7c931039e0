"""Records on disk: one JSON file a run, per-episode scores beside it, written whole or not at all."""

from __future__ import annotations

import glob
import io
import json
import os
import re
import reprlib
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmark.errors import InputError
from benchmark.hashing import content_key
from benchmark.system.files import write_atomically
from benchmark.system.interrupts import defer_signals
from benchmark.system.locks import RunLocks

SCHEMA = 1
Record = dict[str, Any]
"""One run as JSON values. See ``benchmark.experiment.measurement`` for what it holds."""

_REQUIRED = {
    "schema", "key", "status", "provenance", "protocol", "dataset", "preset", "method", "backbone", "teacher", "seed",
}  # fmt: skip
_REQUIRED_DONE = {"metric", "value", "intervals", "references"}


class DamagedRecord(InputError):
    """A file that is no whole record, at ``path``."""

    def __init__(self, path: Path, reason: object) -> None:
        super().__init__(f"record {path} is damaged ({reason}); the run that made it sets it aside and makes it anew")
        self.path = path


class Store:
    """A folder of records named ``PROTOCOL.DATASET.METHOD.sSEED.KEY.json``, KEY the first 12 digits of the key."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.locks = RunLocks(root / ".claims")

    def check_writable(self) -> None:
        """Raise ``InputError`` where records could not be written."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise InputError(
                f"cannot write to results folder {self.root} ({error.strerror or error}); use --results DIR"
            ) from None

    def find(self, key: str) -> Record | None:
        """The record with ``key``, or None. A damaged one raises ``DamagedRecord`` and stays as it is."""
        for path in sorted(self.root.glob(f"*.{key[:12]}.json")):
            _check_inside(path, self.root, "record")
            record = read_record(path)
            if record["key"] != key:
                raise DamagedRecord(path, "its key is not that of its name")
            return record
        return None

    def save(self, record: Record, arrays: Mapping[str, npt.NDArray[Any]]) -> Path:
        """Write a record and its arrays; an interrupted write leaves an earlier record as it was.

        A signal to stop is heeded afterwards.
        """
        try:
            with defer_signals():
                return self._save(record, arrays)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"cannot write a record to {self.root} ({reason}); earlier records are intact") from None

    def _save(self, record: Record, arrays: Mapping[str, npt.NDArray[Any]]) -> Path:
        parts = [record["protocol"], record["dataset"], record["method"], f"s{record['seed']}", record["key"][:12]]
        path = self.root / (".".join(part.replace("/", "-") for part in parts) + ".json")
        for left in self.root.glob(f".{glob.escape(path.stem)}.*.tmp"):
            left.unlink(missing_ok=True)  # of a process that was killed: who saves a record has the claim on its run
        if arrays:
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **dict(arrays))
            write_atomically(path.with_suffix(".npz"), buffer.getvalue())
            record = {**record, "arrays": path.with_suffix(".npz").name}
        content = {**record, "sha256": content_key(record)}
        write_atomically(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
        return path

    def arrays(self, record: Record) -> dict[str, npt.NDArray[Any]]:
        """What was saved beside a record, by name; empty where nothing was. Damaged or gone raises ``InputError``."""
        if "arrays" not in record:
            return {}
        path = self.root / record["arrays"]
        _check_inside(path, self.root, "arrays")
        try:
            # read whole first: numpy leaves a damaged file open
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                return dict(file)
        except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(
                f"arrays {path} are damaged or gone ({error}); run with --mode force to replace them"
            ) from None

    def records(self) -> Iterator[tuple[Path, Record | InputError]]:
        """Every record in the folder by file name; for a damaged one the error that says so."""
        if not self.root.is_dir():
            raise InputError(
                f"there is no results folder {self.root}; make records with `run`, or name one with --results DIR"
            )
        for path in sorted(self.root.glob("*.json")):
            try:
                _check_inside(path, self.root, "record")
                yield path, read_record(path)
            except InputError as error:
                yield path, error

    def read(self) -> tuple[list[Record], list[InputError]]:
        """The whole records of the folder by file name, and the errors that say what is wrong with the others."""
        found = [record for _, record in self.records()]
        return (
            [record for record in found if not isinstance(record, InputError)],
            [record for record in found if isinstance(record, InputError)],
        )

    def select(self, protocol: str | None, dataset: str | None) -> tuple[list[Record], list[InputError]]:
        """As ``read``, but only records of a data set, and of protocols whose name is ``protocol`` or begins so.

        No such record at all raises ``InputError``.
        """
        good, damaged = self.read()
        if not good and not damaged:
            raise InputError(
                f"there are no records in {self.root}; make some with `run`, or name another folder with --results DIR"
            )
        wanted = [
            record
            for record in good
            if (protocol is None or record["protocol"] == protocol or record["protocol"].startswith(f"{protocol}-"))
            and dataset in (None, record["dataset"])
        ]
        if good and not wanted:
            there = sorted({f"{record['protocol']} {record['dataset']}" for record in good})
            raise InputError(f"no record in {self.root} is of that protocol and data set; there are {', '.join(there)}")
        return wanted, damaged

    def resolve(self, name: str) -> Record:
        """The one record that a file's path or name, a key or the beginning of a key stands for.

        None or several raise ``InputError``.
        """
        path = Path(name)
        if path.suffix == ".json":
            return read_record(path if path.exists() else self.root / path.name)
        if not re.fullmatch("[0-9a-f]{4,64}", name):
            raise InputError(f"{name!r} is no run: give the path of its record, or 4 digits or more of its key")
        found = [
            path for path in sorted(self.root.glob("*.json")) if path.stem.rpartition(".")[2].startswith(name[:12])
        ]
        for path in found:
            _check_inside(path, self.root, "record")
        records = [record for record in map(read_record, found) if record["key"].startswith(name)]
        if len(records) == 1:
            return records[0]
        if not records:
            raise InputError(f"no record in {self.root} has a key that begins with {name}; use --results DIR")
        raise InputError(f"{name} is the beginning of {len(records)} keys in {self.root}; give more of it")


def read_record(path: Path) -> Record:
    """The record in a file. What is no whole record raises ``DamagedRecord``, one of another schema ``InputError``."""
    try:
        record = json.loads(path.read_bytes(), parse_constant=_refuse)
    except (FileNotFoundError, ValueError, RecursionError) as error:
        raise DamagedRecord(path, error) from None
    except OSError as error:  # says nothing of what it holds
        raise InputError(f"record {path} cannot be read ({error.strerror or error})") from None
    if isinstance(record, dict) and record.get("schema", SCHEMA) != SCHEMA:
        raise InputError(
            f"record {path} has schema {record['schema']!r}, this version reads {SCHEMA}; update the package"
        )
    missing = sorted(_lacking(record)) if isinstance(record, dict) else ["schema"]
    if missing:
        raise DamagedRecord(path, f"it lacks {', '.join(missing)}")
    if wrong := _wrong(record):
        raise DamagedRecord(path, wrong)
    checksum = record.pop("sha256", None)  # records of before there was one have none
    if checksum is not None and checksum != content_key(record):
        raise DamagedRecord(path, "its checksum is not the recorded one")
    return record


def _lacking(record: Record) -> set[str]:
    done = record.get("status") == "done"
    return (_REQUIRED | _REQUIRED_DONE if done else _REQUIRED) - set(record)


def _wrong(record: Record) -> str | None:
    """What of a record that lacks nothing cannot be, None where all is well."""
    texts = _REQUIRED - {"schema", "seed"} | ({"arrays"} & set(record))
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


def _check_inside(path: Path, root: Path, what: str) -> None:
    """Refuse a file that lies elsewhere than in ``root``, by its name or by a link."""
    if os.path.dirname(os.path.realpath(path)) != os.path.realpath(root):
        raise InputError(f"{what} {path} leads out of {root}; put the file itself there")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
