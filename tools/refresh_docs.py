"""Put the committed results into the documentation: ``python tools/refresh_docs.py`` after they have changed.

A block is ``<!-- made by: compare A B on PROTOCOLS -->`` ... ``<!-- end -->``. It holds the sentences that the command
of that name prints on ``results/reference``.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmark.records.store import Store
from benchmark.report.aggregation import group_by_method
from benchmark.report.compare import compare, sentences

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
_BLOCK = re.compile(r"(<!-- made by: compare (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def quoting() -> list[Path]:
    """The pages that quote results."""
    return [path for path in sorted((ROOT / "docs").rglob("*.md")) if _BLOCK.search(_text(path))]


def refreshed(markdown: str) -> str:
    """The text with its blocks replaced by the current results.

    Raises:
        InputError: A block compares methods that have no records.
    """
    return _BLOCK.sub(lambda block: f"{block[1]}\n{_comparison(block[2])}\n{block[3]}", markdown)


def _comparison(what: str) -> str:
    names, _, protocols = what.partition(" on ")
    store = Store(RESULTS / "reference")
    records = [record for record in store.read()[0] if record["protocol"].startswith(f"{protocols}-")]
    cells = [cell for cell in group_by_method(records) if cell.conditions.preset == "quick"]
    command = f"python -m benchmark compare {names} --protocol {protocols} --preset quick --results results/reference"
    lines = [f"$ {command}", "...", *sentences(compare(cells, names.split(), store)[0])]
    return "```text\n" + "\n".join(lines) + "\n```\n"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


if __name__ == "__main__":
    for path in quoting():
        path.write_text(refreshed(_text(path)), encoding="utf-8")
