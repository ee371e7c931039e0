"""One list of hostile names through every output of records: what stands in a name is shown and never obeyed."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bs4 import BeautifulSoup
from markdown_it import MarkdownIt
from matplotlib.text import Text

from benchmark.display.console import say
from benchmark.display.tables import print_records, print_table
from benchmark.records.store import Store
from benchmark.report.csv import to_csv
from benchmark.report.figures import FIGURES, draw, drawings
from benchmark.report.leaderboard import leaderboard
from benchmark.report.page import make_page
from benchmark.report.tables import make_tables, to_latex, to_markdown
from benchmark.system.escaping import visible
from tests.hostile import HOSTILE
from tests.records.making import make_record
from tests.report.figures.synthetic import record, results

NAMES = [name for name in HOSTILE if len(name) < 100]
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def named(name: str) -> dict[str, Any]:
    return record("distill-cross", name, 0, 0.5, dataset=name, teacher=name, error=name)


RECORDS = [named(name) for name in NAMES]


def test_csv_has_one_row_a_record_and_no_formula() -> None:
    text = to_csv(leaderboard(RECORDS))
    rows = list(csv.reader(io.StringIO(text, newline="")))
    methods = [row for row in rows[1:] if "reference" not in row]
    assert len(rows) == len(text.splitlines())
    assert len(methods) == len(RECORDS)
    assert {len(row) for row in rows} == {len(rows[0])}
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row)
    assert not CONTROL.search(text)
    assert {visible(name) for name in NAMES} == {row[1].removeprefix("'") for row in methods}


def test_markdown_shows_every_name_in_its_cell() -> None:
    text = to_markdown(make_tables(RECORDS))
    assert not CONTROL.search(text)
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    inline = [token for token in tokens if token.type == "inline"]
    kinds = {child.type for token in inline for child in token.children or ()}
    assert kinds <= {"text", "text_special", "strong_open", "strong_close", "softbreak"}
    assert sum(token.type == "heading_open" for token in tokens) == len(RECORDS)
    shown = {"".join(child.content for child in token.children or ()).strip() for token in inline}
    assert {visible(name).strip() for name in NAMES} <= shown


def test_latex_has_one_row_a_record_and_no_argument_after_a_row() -> None:
    text = to_latex(make_tables(RECORDS))
    assert not CONTROL.search(text)
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    methods = [row for row in rows if not re.match(r"method &|chance &|\\parbox.*nearest mean", row)]
    assert len(methods) == len(RECORDS)
    assert not [line for line in text.splitlines() if line.lstrip().startswith("[")]
    assert all(len(re.findall(r"(?<!\\)&", row)) == 1 for row in rows)
    assert r"\input" not in text


@pytest.mark.parametrize("name", NAMES)
def test_terminal_prints_names_as_they_are(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    say(name)
    print_table(name, [name], [[name]], caption=name)
    print_records([{**named(name), "student_facts": {"steps": 1, "seconds": 1.0}}])
    printed = capsys.readouterr().out
    assert not CONTROL.search(printed)
    assert printed.count(visible(name).strip()) >= 6


def test_html_page_shows_names_as_text() -> None:
    text = make_page(RECORDS, [], NAMES)
    assert not CONTROL.search(text)
    page = BeautifulSoup(text, "html.parser")
    assert not [script for script in page.find_all("script") if "alert(1)" in script.text and "<script>" in script.text]
    assert {visible(name) for name in NAMES} <= {
        row["data-method"] for row in page.find_all("tr") if row.get("data-method") is not None
    }
    assert not re.search("[\u202a-\u202e]", json.dumps(text, ensure_ascii=False))


def test_figures_take_no_name_for_mathematics(tmp_path: Path) -> None:
    runs = [record(protocol, name, seed, 0.5 + 0.01 * seed) for protocol in ("distill-cross", "fewshot-5way1shot")
            for name in (*NAMES, "ce") for seed in (0, 1)]  # fmt: skip
    shown = results(runs, tmp_path / "r")
    written = set()
    for figure in FIGURES.names():
        made, _ = drawings(figure, shown)
        for drawing in made:
            written.add(figure)
            assert not [text for text in drawing.figure.findobj(Text) if text.get_text() and text.get_parse_math()]
    assert {"cost", "curves"} <= written
    paths, _ = draw(["cost"], shown, tmp_path / "figures")
    assert paths
    assert all(re.fullmatch("[A-Za-z0-9._-]+", path.name) for path in paths)


@pytest.mark.parametrize("name", [name for name in HOSTILE if name and "\udcff" not in name])
def test_record_is_found_under_a_plain_name(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path)
    made = make_record(name, name, 0, 0.5, dataset=name)
    path = store.save(made, {"scores": np.zeros(2)})
    assert re.fullmatch("[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}", path.name)
    assert path.parent == tmp_path
    found = store.find(made["key"])
    assert found is not None
    assert (found["dataset"], list(store.arrays(found))) == (name, ["scores"])


def test_record_under_an_earlier_name_is_found_and_replaced_in_place(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = make_record("distill-cross", "ce", 0, 0.5, dataset="folder:photos")
    path = store.save(made, {})
    old = path.rename(path.with_name(path.name.replace("folder-photos", "folder:photos")))
    assert store.find(made["key"]) == made
    assert store.save({**made, "value": 0.25}, {}) == old
    assert [found["value"] for found in store.read()[0]] == [0.25]
