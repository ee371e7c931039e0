"""Several results folders at once: read them together, merge them, and remove runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from benchmark.errors import InputError, os_reason
from benchmark.records.run_record import RunRecord, in_folder
from benchmark.records.schema import Record, apart, determined
from benchmark.records.store import Store


class FolderStore(Store):
    """Finds the arrays of each record in the folder that it was read from."""

    def arrays(self, record: Record) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays of a record by name, see ``Store.arrays``."""
        folder = record.folder if isinstance(record, RunRecord) else None
        return super().arrays(record) if folder is None else Store(folder).arrays(record)


def read_folders(
    folders: Sequence[Path], protocol: str | None, dataset: str | None
) -> tuple[list[Record], list[InputError]]:
    """Return the records of all folders, each run once, and the errors that say what is wrong with others.

    Args:
        folders: The folders; of a run that stands in several, a finished record counts, else that of the first.
        protocol: Only records whose protocol is this name or starts with it.
        dataset: Only records of this data set.

    Raises:
        InputError: A folder holds no records, or no folder holds such records.
    """
    records: dict[str, Record] = {}
    damaged: list[InputError] = []
    refusal: InputError | None = None
    for folder in dict.fromkeys(folders):
        store = Store(folder)
        if len(folders) > 1 and not any(True for _ in store.records()):
            raise InputError(f"there are no records in {folder}; name another folder with --results DIR")
        try:
            found, problems = store.select(protocol, dataset)
        except InputError as error:
            refusal = refusal or error
            continue
        damaged += problems
        for record in in_folder(found, folder):
            if records.get(record["key"], {}).get("status") != "done":
                records[record["key"]] = record
    if not records and not damaged and refusal is not None:
        raise refusal
    return list(records.values()), damaged


@dataclass
class Merge:
    """What a merge did, in counts of records, and the runs that it left as they were."""

    copied: int = 0
    present: int = 0
    problems: list[str] = field(default_factory=list)


def merge(sources: Sequence[Path], target: Path) -> Merge:
    """Copy the records and arrays of folders into another one. A finished record there is never replaced.

    Args:
        sources: The folders, whose records may be packed.
        target: The folder, made if there is none.

    Raises:
        InputError: A folder is missing, or ``target`` cannot be written.
    """
    done, store = Merge(), Store(target)
    for source in sources:
        if source.resolve() == target.resolve():
            raise InputError(f"{source} cannot be merged into itself")
        if not source.is_dir():
            raise InputError(f"there is no results folder {source}")
    store.check_writable()
    for source in sources:
        for _, record in Store(source).records():
            try:
                if isinstance(record, InputError):
                    raise record
                known = store.find(record["key"])
                if known is None or (known["status"] != "done" and record["status"] == "done"):
                    own = {k: v for k, v in record.items() if k not in ("arrays", "arrays_sha256")}
                    store.save(own, Store(source).arrays(record))
                    done.copied += 1
                elif record["status"] == "done" and _differs(known, record):
                    done.problems.append(
                        f"{source}: {record['key'][:12]} has another result than in {target}, which is kept "
                        f"({record['value']:.6f} is not {known['value']:.6f})"
                    )
                else:
                    done.present += 1
            except InputError as error:
                done.problems.append(str(error))
    return done


def _differs(known: Record, record: Record) -> bool:
    """Whether two records of one key have different results; a teacher beside the run is none of them."""
    if known.get("beside") != record.get("beside"):
        known, record = apart(known), apart(record)
    return determined(known) != determined(record)


def remove(folder: Path, chosen: Callable[[Record], bool], *, dry_run: bool = False) -> tuple[list[Record], list[str]]:
    """Remove the records that are chosen, with their arrays.

    Args:
        folder: The folder.
        chosen: Says of a record whether it goes.
        dry_run: Remove nothing.

    Returns:
        The records that are removed, and a line for each chosen one that stays: it is packed, or running.

    Raises:
        InputError: A file cannot be removed.
    """
    store = Store(folder)
    removed, kept = [], []
    for path, record in store.records():
        if isinstance(record, InputError) or not chosen(record):
            continue
        if path.parent != folder:
            kept.append(f"{path.name} stays: it is packed in {path.parent.name}; `tar xf` unpacks that")
        elif store.locks.is_locked(record["key"]):
            kept.append(f"{path.name} stays: it is running")
        else:
            removed.append(record)
            try:
                if not dry_run:
                    path.unlink()
                    path.with_suffix(".npz").unlink(missing_ok=True)
            except OSError as error:
                raise InputError(f"cannot remove {path} ({os_reason(error)})") from None
    return removed, kept
