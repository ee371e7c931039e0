from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from benchmark.report.leaderboard import leaderboard
from benchmark.report.tables import make_tables, to_json, to_latex, to_markdown

from .test_leaderboard import record

VALUES = {
    ("refilled", "distill-same"): [0.80, 0.81, 0.82],
    ("kd", "distill-same"): [0.79, 0.815, 0.805],
    ("ce", "distill-same"): [0.60, 0.61, 0.625],
    ("refilled", "distill-overlap20"): [0.70, 0.71, 0.72],
    ("ce", "distill-overlap20"): [0.50, 0.51, 0.53],
    ("kd", "distill-overlap20"): [0.55, 0.56],
    ("refilled", "distill-overlap5"): [0.70, 0.71, 0.72],
    ("ce", "distill-overlap5"): [0.75, 0.76, 0.77],
}
RECORDS = [
    record(method, seed, value, protocol=protocol)
    for (method, protocol), values in VALUES.items()
    for seed, value in enumerate(values)
]


def test_table_ranks_only_methods_that_are_complete_in_all_protocols() -> None:
    (table,) = make_tables(RECORDS)
    assert table.protocols == ("distill-overlap5", "distill-overlap20", "distill-same")
    assert table.ranks == {"refilled": pytest.approx(4 / 3), "ce": pytest.approx(5 / 3)}
    assert table.methods == ("refilled", "ce", "kd")
    assert table.missing == {"kd": {"distill-overlap5": [], "distill-overlap20": [2]}}


def test_table_marks_the_best_and_methods_not_significantly_different() -> None:
    (table,) = make_tables(RECORDS)
    same = {method: table.entries[method, "distill-same"] for method in table.methods}
    assert [m for m, entry in same.items() if entry.best] == ["refilled"]
    best = VALUES["refilled", "distill-same"]
    p = [stats.ttest_rel(best, VALUES[m, "distill-same"]).pvalue for m in ("kd", "ce")]
    assert p[0] > 0.05 > 2 * p[1]
    assert [m for m, entry in same.items() if entry.tied] == ["refilled", "kd"]
    assert table.shared_seeds == {"distill-overlap20": [0, 1]}
    assert "ranks are over the seeds that all methods have finished: distill-overlap20 0-1." in to_markdown([table])


def test_make_tables_separates_data_sets_backbones_and_families_and_omits_publications() -> None:
    others = [
        record("ce", 0, 0.5, protocol="distill-same", dataset="emoji"),
        record("ce", 0, 0.5, protocol="distill-same", backbone="conv4-32"),
        record("ce", 0, 0.5, protocol="fewshot-5way1shot"),
        record("ce", 0, 0.9, protocol="distill-same", provenance="reported-in-paper"),
    ]
    assert len(make_tables([*RECORDS, *others])) == 4
    assert "90.00" not in to_markdown(make_tables([*RECORDS, *others]))


def test_markdown_has_all_numbers_and_names_missing_runs() -> None:
    text = to_markdown(make_tables(RECORDS))
    half = 100 * stats.t.ppf(0.975, 2) * stats.sem(VALUES["refilled", "distill-same"])
    assert f"**81.00** ± {half:.2f}" in text
    assert "80.33 †" in text
    assert "- kd: no seed 2 of distill-overlap20; no run of distill-overlap5" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {6}


def test_markdown_of_one_seed_has_neither_interval_nor_mark() -> None:
    text = to_markdown(make_tables([record("kd", 0, 0.5), record("ce", 0, 0.4), record("a|b_", 0, 0.3)]))
    assert "| kd | **50.00** |" in text
    assert "| ce | 40.00 |" in text
    assert r"| a\|b\_ | 30.00 |" in text
    assert "one seed: no interval" in text


def test_tables_without_a_finished_run_say_so_in_every_format() -> None:
    failed = record("kd", 0, 0.0, status="failed")
    del failed["value"], failed["metric"]
    tables = make_tables([failed])
    for text in (to_markdown(tables), to_latex(tables)):
        assert "No run has finished." in text
        assert "kd: no seed 0 of " in text
    assert json.loads(to_json(leaderboard([failed]), tables))["rows"][0]["status"] == "failed"


def test_latex_has_balanced_braces_and_compiles(tmp_path: Path) -> None:
    text = to_latex(make_tables([*RECORDS, record("my_method{50%}", 0, 0.4, protocol="distill-same")]))
    assert r"\textbf{81.00}" in text
    assert r"my\_method\{50\%\}" in text
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1
    bare = re.sub(r"\\[{}]", "", text)
    depth = 0
    for sign in re.findall("[{}]", bare):
        depth += 1 if sign == "{" else -1
        assert depth >= 0
    assert depth == 0
    (header,) = re.findall(r"\\toprule\n(.*?) \\\\", text)
    bodies = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert {line.count(" & ") for line in bodies} == {header.count(" & ")}
    if shutil.which("pdflatex"):
        document = r"\documentclass{article}\usepackage{booktabs,amsmath}\begin{document}" + text + r"\end{document}"
        (tmp_path / "t.tex").write_text(document)
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"], cwd=tmp_path, capture_output=True
        )
        assert done.returncode == 0, done.stdout[-2000:]


def test_json_has_the_rows_of_the_leaderboard_and_missing_seeds() -> None:
    frame = leaderboard(RECORDS)
    shown: dict[str, Any] = json.loads(to_json(frame, make_tables(RECORDS)))
    assert [row["method"] for row in shown["rows"]] == frame["method"].tolist()
    assert [row["mean"] for row in shown["rows"]] == pytest.approx(frame["mean"].tolist())
    assert shown["tables"][0]["missing"] == {"kd": {"distill-overlap5": [], "distill-overlap20": [2]}}
