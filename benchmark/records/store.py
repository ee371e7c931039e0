"""Records on disk: one JSON file per run, arrays beside it, both written whole or not at all; and packs of them."""

from __future__ import annotations

import glob
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmark.errors import InputError, os_reason
from benchmark.hashing import content_key
from benchmark.records import arrays
from benchmark.records.arrays import Arrays
from benchmark.records.packs import SUFFIX, DamagedPack, Pack, check_inside, open_pack, packed_arrays
from benchmark.records.schema import MAX_ARRAY_BYTES, DamagedRecord, Record, key_of, read_record
from benchmark.system.files import plain_name, read_file, write_atomically
from benchmark.system.interrupts import defer_signals
from benchmark.system.locks import RunLocks


class DamagedArrays(InputError):
    """Arrays that are damaged, gone, or of another record."""


class Store:
    """A folder of records named ``PROTOCOL.DATASET.METHOD.sSEED.KEY.json``, KEY the first 12 digits of the key.

    Names hold letters, digits, dots, hyphens and underscores only, in at most 200 characters. Records are found by
    KEY, so that other names before it are read too.
    """

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
                f"cannot write to results folder {self.root} ({os_reason(error)}); use --results DIR"
            ) from None

    def find(self, key: str) -> Record | None:
        """The record with that key, or None.

        Raises:
            DamagedRecord: the loose record of that name is damaged. The file stays as it is.
            InputError: the packed record or a pack is damaged.
        """
        for path in sorted(self.root.glob(f"*.{key[:12]}.json")):
            record = self._read_loose(path)
            if record["key"] != key:
                raise DamagedRecord(path, "its key is not that of its name")
            return record
        packs, damaged = self._packs()
        for pack in packs:
            name = pack.names.get(key[:12])
            if name is not None and (record := pack.record(name))["key"] == key:
                return record
        if damaged:
            raise damaged[0]
        return None

    def save(self, record: Record, values: Arrays) -> Path:
        """Write a record and its arrays; an interrupted write leaves an earlier record as it was.

        A signal to stop takes effect afterwards.
        """
        try:
            with defer_signals():
                return self._save(record, values)
        except OSError as error:
            raise InputError(
                f"cannot write a record to {self.root} ({os_reason(error)}); earlier records are intact"
            ) from None

    def _save(self, record: Record, values: Arrays) -> Path:
        names = [plain_name(record[part], 50) for part in ("protocol", "dataset", "method")]
        key = record["key"][:12]
        name = ".".join([*names, f"s{record['seed']}", key]) + ".json"
        path = next(iter(sorted(self.root.glob(f"*.{key}.json"))), self.root / name)  # earlier names stay
        for left in self.root.glob(f".{glob.escape(path.stem)}.*.tmp"):
            left.unlink(missing_ok=True)  # of a process that was killed: who saves a record has the claim on its run
        if values:
            values = {name: np.asarray(value) for name, value in values.items()}
            write_atomically(path.with_suffix(".npz"), arrays.to_npz(values, compress=True))
            own = {"arrays": path.with_suffix(".npz").name, "arrays_sha256": arrays.checksum(values)}
            record = {**record, **own}
        content = {**record, "sha256": content_key(record)}
        write_atomically(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
        return path

    def arrays(self, record: Record) -> dict[str, npt.NDArray[Any]]:
        """The arrays of a record by name; empty if it has none.

        Raises:
            DamagedArrays: the file is damaged, gone, or of another record.
        """
        if "arrays" not in record:
            return {}
        path = self.root / record["arrays"]
        try:
            check_inside(path, self.root, "arrays")
            values = arrays.from_npz(self._array_bytes(path))
            if record.get("arrays_sha256") not in (None, arrays.checksum(values)):
                raise ValueError("their checksum is not the recorded one: they belong to another run")
        except InputError as error:
            raise DamagedArrays(str(error)) from None
        except (OSError, ValueError) as error:
            raise DamagedArrays(
                f"arrays {path} are damaged or gone ({error}); run with --mode force to replace them"
            ) from None
        return values

    def _array_bytes(self, path: Path) -> bytes:
        """The content of a loose ``.npz`` file, else of the packed one of that name."""
        if not os.path.lexists(path):
            for pack in self._packs()[0]:
                if f"{path.stem}.json" in pack.texts and path.name in packed_arrays(pack):
                    return packed_arrays(pack)[path.name]
        return read_file(path, MAX_ARRAY_BYTES)

    def records(self) -> Iterator[tuple[Path, Record | InputError]]:
        """Every record by file name, loose or packed; for a damaged record or pack the error that names it.

        The path of a packed record is that of its pack and, within it, its file name.
        """
        if not self.root.is_dir():
            raise InputError(
                f"there is no results folder {self.root}; make records with `run`, or name one with --results DIR"
            )
        packs, damaged = self._packs()
        yield from ((error.path, error) for error in damaged)
        packed = {name: pack for pack in packs for name in pack.texts}
        loose = {path.name: path for path in self.root.glob("*.json")}
        for name in sorted({*packed, *loose}):
            path = loose[name] if name in loose else packed[name].path / name
            try:
                yield path, self._read_loose(path) if name in loose else packed[name].record(name)
            except InputError as error:
                yield path, error

    def _read_loose(self, path: Path) -> Record:
        check_inside(path, self.root, "record")
        return read_record(path)

    def _packs(self) -> tuple[list[Pack], list[DamagedPack]]:
        """The packs of the folder by name, and the errors that say what is wrong with the others."""
        packs, damaged = [], []
        for path in sorted(self.root.glob(f"*{SUFFIX}")):
            try:
                if (pack := open_pack(path)).texts:
                    packs.append(pack)
            except DamagedPack as error:
                damaged.append(error)
        return packs, damaged

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
        """The one record that a name stands for.

        Args:
            name: the path or name of the record's file, its key, or 4 or more first digits of the key.

        Raises:
            InputError: no record has that name, or several have.
        """
        path = Path(name)
        packs, damaged = self._packs()
        packed = {file: pack for pack in packs for file in pack.texts}
        if path.suffix == ".json":
            if not path.exists() and path.name in packed and not (self.root / path.name).exists():
                return packed[path.name].record(path.name)
            return read_record(path if path.exists() else self.root / path.name)
        if not re.fullmatch("[0-9a-f]{4,64}", name):
            raise InputError(f"{name!r} is no run: give the path of its record, or 4 digits or more of its key")
        loose = {path.name: path for path in self.root.glob("*.json")}
        files = [file for file in sorted({*loose, *packed}) if key_of(file).startswith(name[:12])]
        records = [self._read_loose(loose[file]) if file in loose else packed[file].record(file) for file in files]
        by_key = {record["key"]: record for record in records if record["key"].startswith(name)}
        if len(by_key) == 1:
            return by_key.popitem()[1]
        if not by_key:
            if damaged:
                raise damaged[0]
            raise InputError(f"no record in {self.root} has a key that begins with {name}; use --results DIR")
        raise InputError(f"{name} is the beginning of {len(by_key)} keys in {self.root}; give more of it")
