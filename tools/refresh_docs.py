"""Put the committed results into README and documentation: ``python tools/refresh_docs.py`` after they have changed.

A block is ``<!-- made by: WHAT -->`` ... ``<!-- end -->``. WHAT is ``table HEADING``, the section of
``results/tables/leaderboard.md`` whose heading begins so, without the variants of methods by their own settings;
``section HEADING``, what ``results/README.md`` says under it; or ``compare A B on PROTOCOLS``, the sentences that the
command of that name prints on ``results/reference``.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmark.records.store import Store
from benchmark.report.aggregation import group_by_method
from benchmark.report.compare import compare, sentences

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
_BLOCK = re.compile(r"(<!-- made by: (table|section|compare) (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def quoting() -> list[Path]:
    """The files that quote results."""
    return [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if _BLOCK.search(_text(path))]


def refreshed(markdown: str) -> str:
    """A text with its blocks made anew; a table or a comparison that is not there raises."""
    made = {"table": _table, "section": _section, "compare": _comparison}
    return _BLOCK.sub(lambda found: f"{found[1]}\n{made[found[2]](found[3])}\n{found[4]}", markdown)


def _table(heading: str) -> str:
    sections = _text(RESULTS / "tables" / "leaderboard.md").split("### ")
    (found,) = (section for section in sections if section.startswith(heading))
    title, _, table = found.partition("\n")
    lines = [line for line in table.strip().splitlines() if not re.match(r"(\||-) \S+ \(", line)]
    return f"**{title}**\n\n" + "\n".join(lines) + "\n"


def _section(heading: str) -> str:
    (found,) = re.findall(rf"^## {re.escape(heading)}\n\n(.*?)(?=^## |\Z)", _text(RESULTS / "README.md"), re.M | re.S)
    return found.rstrip() + "\n"


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
