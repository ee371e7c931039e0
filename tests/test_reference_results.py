"""What is committed under ``results/``: tables are made of the records, and the records are of this version."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark import runner
from benchmark.data.published import data_set
from benchmark.report.leaderboard import leaderboard, to_csv
from benchmark.report.tables import make_tables, to_latex, to_markdown
from benchmark.store import Record, Store
from benchmark.verification import replan

RESULTS = Path(__file__).parent.parent / "results"


@pytest.fixture(scope="module")
def records() -> list[Record]:
    good, damaged = Store(RESULTS / "reference").read()
    assert not damaged
    assert len(good) >= 50
    return good


def test_tables_are_what_the_records_say(records: list[Record]) -> None:
    tables = make_tables(records)
    assert (RESULTS / "leaderboard.csv").read_text() == to_csv(leaderboard(records))
    assert (RESULTS / "tables/leaderboard.md").read_text() == to_markdown(tables)
    assert (RESULTS / "tables/leaderboard.tex").read_text() == to_latex(tables)


def test_the_records_are_of_this_version(records: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same request would be the same run: no default, preset, version or data set has changed since."""
    loaded = {name: data_set(name)(Path()) for name in {record["dataset"] for record in records}}
    monkeypatch.setattr(runner, "data_set", lambda name: lambda root: loaded[name])
    for record in records:
        assert replan(record, Path()).spec(record["seed"]).key == record["key"]


def test_every_record_is_whole(records: list[Record]) -> None:
    store = Store(RESULTS / "reference")
    for record in records:
        assert record["status"] == "done"
        arrays = store.arrays(record)
        if "correct_student" in arrays:
            mean = arrays["correct_student"].mean() / record["facts"]["queries_per_episode"]
        else:
            mean = (arrays["predicted_student"] == arrays["labels"]).mean()
        assert mean == pytest.approx(record["value"], abs=1e-12)
