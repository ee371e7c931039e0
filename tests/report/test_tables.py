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
    assert r"my\_method\{50\%\}" in text.replace(r"\allowbreak{}", "")
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1
    bare = re.sub(r"\\[{}]", "", text)
    depth = 0
    for sign in re.findall("[{}]", bare):
        depth += 1 if sign == "{" else -1
        assert depth >= 0
    assert depth == 0
    for part in text.split(r"\begin{table}")[1:]:
        (header,) = re.findall(r"\\toprule\n(.*?) \\\\", part)
        bodies = [line for line in part.split(r"\midrule", 1)[1].split(r"\bottomrule")[0].splitlines() if "&" in line]
        assert {line.count(" & ") for line in bodies} == {header.count(" & ")}
    if shutil.which("pdflatex"):
        document = r"\documentclass{article}\usepackage{booktabs}\begin{document}" + text + r"\end{document}"
        (tmp_path / "t.tex").write_text(document)
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"], cwd=tmp_path, capture_output=True
        )
        assert done.returncode == 0, done.stdout[-2000:]


def test_every_table_has_references_and_images_per_class() -> None:
    facts, scores = {"images_per_class": 2, "classes": 50}, {"teacher_ncm": {"value": 0.4, "intervals": {}}}
    tables = make_tables([{**each, "facts": facts, "references": scores} for each in RECORDS])
    assert tables[0].facts == ("2 images per class", "50 classes")
    markdown, latex = to_markdown(tables), to_latex(tables)
    assert "| chance | 2.00 | 2.00 | 2.00 |  |" in markdown
    assert "| nearest mean on teacher | 40.00 ± 0.00 |" in markdown
    assert "2 images per class, 50 classes." in markdown
    assert "2 images per class, 50 classes." in latex
    assert latex.count("\nchance & ") == latex.count(r"\toprule")


@pytest.mark.parametrize(("columns", "environment", "points"), [(1, "table", 229), (2, "table*", 469)])
def test_latex_fits_the_columns_of_a_two_column_paper(columns: int, environment: str, points: int) -> None:
    """By the estimated widths of its cells; where LaTeX is installed, by LaTeX."""
    protocols = ["distill-same", *(f"distill-overlap{n}" for n in (20, 40, 60, 80)), "distill-cross"]
    preset = "quick+protocol.episodes=100+teacher.steps=3+training.steps=3"
    wide = [
        record(method, seed, value + seed / 100, protocol=protocol, preset=preset + more)
        for protocol in [*protocols, *(f"incremental-1step-{n}exemplars" for n in (0, 5, 20))]
        for method, value, more in (("ce", 0.5, ""), ("refilled", 0.505, "+method.embedding_share=0.25"))
        for seed in range(3)
    ]
    text = to_latex(make_tables(wide), columns)
    assert text.startswith("% needs \\usepackage{booktabs}\n")
    assert text.count(rf"\begin{{{environment}}}") == (3 if columns == 1 else 2)
    assert r"quick+\allowbreak{}protocol.\allowbreak{}episodes=\allowbreak{}100+" in text
    assert r"\rlap" not in text
    assert "0\\allowbreak" not in text.replace("100+", ""), "numbers do not break"
    blocks = re.findall(r"\\begin\{tabular\}\{l(r+)\}", text)
    assert all(60 + 48 * (len(block) - 1) + 20 <= points for block in blocks), blocks
    assert sum(map(len, blocks)) == len(protocols) + 3 + (2 if columns == 2 else 0)
    assert text.count("Methods by average rank.") == (2 if columns == 1 else 0)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex")
@pytest.mark.parametrize("columns", [1, 2])
def test_latex_reports_no_overfull_line(columns: int, tmp_path: Path) -> None:
    facts = {"images_per_class": 2, "classes": 50}
    protocols = ["distill-same", *(f"distill-overlap{n}" for n in (20, 40, 60, 80)), "distill-cross"]
    wide = [
        record(method, seed, 0.5 + number / 999 + seed / 100, protocol=protocol, facts=facts, preset=preset)
        for protocol in [*protocols, "incremental-1step-20exemplars"]
        for number, (method, preset) in enumerate((("ce", "quick"), ("ce", "quick+method.embedding_share=0.25")))
        for seed in range(3)
    ]
    paper = r"\documentclass[twocolumn]{article}\usepackage{booktabs}\begin{document}\input{t}\end{document}"
    (tmp_path / "t.tex").write_text(to_latex(make_tables(wide), columns))
    (tmp_path / "paper.tex").write_text(paper)
    subprocess.run(["pdflatex", "-interaction=nonstopmode", "paper.tex"], cwd=tmp_path, capture_output=True)
    log = (tmp_path / "paper.log").read_text(errors="replace")
    assert "Undefined control sequence" not in log
    assert not [width for width in re.findall(r"Overfull \\hbox \((\d+\.\d+)pt", log) if float(width) > 5]


def test_json_has_the_rows_of_the_leaderboard_and_missing_seeds() -> None:
    frame = leaderboard(RECORDS)
    shown: dict[str, Any] = json.loads(to_json(frame, make_tables(RECORDS)))
    assert [row["method"] for row in shown["rows"]] == frame["method"].tolist()
    assert [row["mean"] for row in shown["rows"]] == pytest.approx(frame["mean"].tolist())
    assert shown["tables"][0]["missing"] == {"kd": {"distill-overlap5": [], "distill-overlap20": [2]}}
