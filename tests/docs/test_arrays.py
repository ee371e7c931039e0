"""The page of the arrays names every array that a run stores."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmark import run
from benchmark.records.store import Store

PAGE = Path(__file__).parents[2] / "docs/arrays.md"


@pytest.mark.parametrize(
    ("protocol", "settings"),
    [
        ("distill-overlap40", {}),
        ("fewshot-5way1shot", {"protocol.episodes": 20, "protocol.queries": 4}),
        ("middleshot-5way1shot", {"protocol.tasks": 2}),
        ("incremental-1step-5exemplars", {}),
    ],
)
def test_page_names_the_arrays(protocol: str, settings: dict[str, int], tmp_path: Path) -> None:
    places = {"results": tmp_path / "runs", "data": tmp_path / "data", "progress": False}
    settings = {**settings, "training.batch_size": 8}
    (record,) = run(protocol, "rkd", dataset="tiny", limit_steps=2, settings=settings, **places)
    stored = set(Store(tmp_path / "runs").arrays(record))
    family = protocol.partition("-")[0]
    (section,) = (part for part in PAGE.read_text().split("\n## ") if family in part.split("\n")[0].split(", "))
    named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE))))
    assert stored <= named
    optional = {n for n in named if n.startswith("disjoint")} if family == "middleshot" else set()
    assert named - stored == (optional if family in ("fewshot", "middleshot") else set())
