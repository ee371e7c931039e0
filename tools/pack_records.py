"""Pack the loose records of results folders: ``python tools/pack_records.py results/reference``.

Every command reads a folder of packs as it reads loose records: ``--results results/reference``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmark.errors import InputError
from benchmark.records.packing import pack_records

if __name__ == "__main__":
    try:
        for folder in sys.argv[1:]:
            for path in pack_records(Path(folder)):
                print(path)  # noqa: T201
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
