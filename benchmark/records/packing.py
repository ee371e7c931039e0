"""Making packs of loose records."""

from __future__ import annotations

import io
import lzma
import tarfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from benchmark.errors import InputError, os_reason
from benchmark.records.arrays import to_npz
from benchmark.records.packs import SUFFIX, members
from benchmark.records.schema import Record, read_record
from benchmark.records.store import Store
from benchmark.system.files import write_atomically

_FORMAT = tarfile.USTAR_FORMAT
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 1, "pb": 1}]
"""Contexts of two bytes: most of a pack are numbers of two or four bytes. It saves 4 % of the reference results."""


def pack_records(folder: Path) -> list[Path]:
    """Pack the loose records of a folder, one pack per protocol and data set, and remove the loose files.

    Records of an earlier pack are kept; a loose record replaces the packed one of its name. Loose files are removed
    only after the new pack was read back.

    Returns:
        The packs written.

    Raises:
        InputError: a record, its arrays or an earlier pack is damaged, or a pack cannot be written.
    """
    groups: dict[str, dict[Path, Record]] = defaultdict(dict)
    for path in sorted(folder.glob("*.json")):
        record = read_record(path)
        groups[f"{record['protocol']}.{record['dataset']}".replace("/", "-")][path] = record
    store = Store(folder)
    try:
        return [_pack(folder / f"{group}{SUFFIX}", records, store) for group, records in groups.items()]
    except OSError as error:
        raise InputError(f"cannot pack the records of {folder} ({os_reason(error)})") from None


def _pack(target: Path, records: Mapping[Path, Record], store: Store) -> Path:
    contents = dict(members(target)) if target.exists() else {}
    for path, record in records.items():
        contents[path.name] = path.read_bytes()
        contents.pop(path.with_suffix(".npz").name, None)
        if "arrays" in record:
            contents[path.with_suffix(".npz").name] = to_npz(store.arrays(record), compress=False)
    write_atomically(target, _compressed(contents))
    if dict(members(target)) != contents:
        raise InputError(f"pack {target} does not hold what was written; the loose records are kept")
    for path in records:
        path.unlink()
        path.with_suffix(".npz").unlink(missing_ok=True)
    return target


def _compressed(contents: Mapping[str, bytes]) -> bytes:
    """A pack of these files by name. The same files give the same bytes."""
    buffer = io.BytesIO()
    with lzma.open(buffer, "w", filters=_FILTERS) as xz, tarfile.open(fileobj=xz, mode="w", format=_FORMAT) as tar:
        for name in sorted(contents, key=lambda name: (name.endswith(".npz"), name)):
            member = tarfile.TarInfo(name)
            member.size = len(contents[name])
            tar.addfile(member, io.BytesIO(contents[name]))
    return buffer.getvalue()
