"""A record as functions return it: a dictionary that prints as one line and knows its folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmark.records.schema import Record


class RunRecord(dict[str, Any]):
    """One run as JSON values, equal to the dictionary in its file."""

    folder: Path | None = None
    """The folder that it was read from or saved to; the arrays of the run lie there."""

    def __repr__(self) -> str:
        run = f"{self.get('protocol')} {self.get('dataset')} {self.get('method')} s{self.get('seed')}"
        result = f"failed: {self.get('error')}"
        if self.get("status") == "done":
            result = f"{self['metric']} {100 * self['value']:.2f} %"
        return f"<{run} {self.get('preset')}: {result}, key {str(self.get('key'))[:12]}>"


def in_folder(records: Iterable[Record], folder: Path) -> list[RunRecord]:
    """Return the records with their folder."""
    known = []
    for record in records:
        known.append(RunRecord(record))
        known[-1].folder = folder
    return known
