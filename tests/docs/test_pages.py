"""Generated pages and tables, and numbers that the documentation quotes."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmark.cli import app
from benchmark.errors import InputError
from benchmark.methods import METHODS
from benchmark.methods.description import equation_of
from benchmark.methods.families import FAMILIES
from benchmark.spec import Training
from protocols import PROTOCOLS

from ..scripts import load
from .markdown import PAGES, ROOT, blocks, name, read

pages = load("docs/generation/pages")
refresh_docs = load("tools/refresh_docs")
RESULTS = read(ROOT / "results" / "README.md")
BUILT_IN = [method for method in METHODS.names() if METHODS.get(method).entry.__module__.startswith("benchmark.")]


@pytest.mark.parametrize("method", BUILT_IN)
def test_method_page_shows_the_equation_instead_of_the_terminal_formula(method: str) -> None:
    text = inspect.getdoc(METHODS.get(method).entry) or ""
    plain = [part for part in text.split("\n\n") if part.startswith(pages.PLAIN)]
    assert plain
    page = pages.method_page(method)
    assert "```math" in page
    assert not any(pages.prose(part) in page for part in plain)
    assert all(pages.prose(part) in page for part in text.split("\n\n") if part not in plain)
    assert f"`{method}`" in pages.families_table()
    assert METHODS.get(method).entry.family in FAMILIES


@pytest.mark.parametrize("method", BUILT_IN)
def test_equation_closes_what_it_opens(method: str) -> None:
    source = equation_of(METHODS.get(method).entry)
    assert source
    assert source.count("{") == source.count("}")
    assert source.count(r"\left") - source.count(r"\leftarrow") == source.count(r"\right")
    assert not re.search(r"\\$", source, re.MULTILINE) or "cases" in source


def test_method_page_has_settings_stages_and_applicability() -> None:
    page = pages.method_page("refilled")
    assert "| `method.tuples` | `mask | truncate | triplet` | `mask` |" in page
    assert "Share of the training steps of stage 1; 0 omits it, 1 omits stage 2." in page
    assert "| embedding | 50 % | kept | 0.1 |" in page
    assert "[arXiv 2205.01915](https://arxiv.org/abs/2205.01915)" in page
    assert pages.applicability("kd")["distill-cross"] is not None
    assert pages.applicability("kd")["distill-same"] is None
    assert len(pages.applicability("kd")) == len({PROTOCOLS.get(protocol).entry for protocol in PROTOCOLS.names()})


def test_method_page_has_tuned_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {("distill-cross", "rkd"): {"training": {"lr": 0.05}, "method": {"angle": 12.5}}}
    monkeypatch.setattr(pages, "tuned_settings", lambda protocol, method: chosen.get((protocol, method)))
    page = pages.method_page("rkd")
    assert "`tune` searches `method.distance`, `method.angle`." in page
    assert "| `distill-cross` | `training.lr=0.05`, `method.angle=12.5` |" in page
    assert "Chosen by `tune`" not in pages.method_page("kd")


def test_prose_escapes_text_but_not_code() -> None:
    assert pages.prose("a_b * c,\n``d_e`` [f] <g>") == r"a\_b \* c, `d_e` \[f\] &lt;g>"
    assert pages.table(["x|y"], [["`a|b`"]]) == "| x&#124;y |\n| --- |\n| `a|b` |\n"


def test_protocol_page_has_the_values_of_each_preset() -> None:
    text = pages.protocol_settings("distill-same")
    assert "| `protocol.images_per_class` | `2` | `0` |" in text
    assert "| `training.steps` | `150` | `10000` |" in text
    assert f"| `training.nesterov` | `bool` | `{Training.nesterov}` |" in pages.section_settings("training")


def test_commands_page_has_every_command_option_and_example() -> None:
    text = pages.commands()
    for heading in ("## run", "## data import", "## sweep", "## compare"):
        assert f"{heading}\n" in text
    assert "`--limit-steps N`" in text
    assert "```sh\npython -m benchmark" in text


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_generated_parts_are_filled(page: object) -> None:
    text = read(page)  # type: ignore[arg-type]
    filled = pages.filled(text)
    assert "<!-- generated" not in filled
    assert (filled == text) == ("<!-- generated" not in text)


def test_quoted_comparisons_equal_the_results() -> None:
    quoting = refresh_docs.quoting()
    assert {name(page) for page in quoting} >= {"docs/statistics.md"}
    for page in quoting:
        assert refresh_docs.refreshed(read(page)) == read(page), "run python tools/refresh_docs.py"


def test_quoting_a_comparison_without_records_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(refresh_docs, "RESULTS", tmp_path)
    with pytest.raises(InputError, match="there is no results folder"):
        refresh_docs.refreshed("<!-- made by: compare refilled ce on distill -->\n<!-- end -->")


def test_findings_of_the_readme_equal_the_results() -> None:
    """Each difference in README has the sign, size and significance of its row in the results' summary."""
    rows = re.findall(
        r"^\| \d\S* (?:b\. |c\. )?(.+?) \| (\S+) \| ([+-])(\S+) \|.*\*\*(.+)\*\* \|$", RESULTS, re.MULTILINE
    )
    results = {(claim, rival): (sign, points, verdict) for claim, rival, sign, points, verdict in rows}
    findings = read(ROOT / "README.md").split("## Five findings")[1].split("\n\n")[2]
    count = 0
    for finding in findings.split("* **")[1:]:
        claim = finding.partition("**")[0]
        for points, direction, rival in re.findall(r"(\d+\.\d)\s+points\s+(ahead\s+of|behind)\s+`(\S+?)`", finding):
            expected = ("+", points, "confirmed") if direction != "behind" else ("-", points, "contradicted")
            assert results[claim, rival] == expected
            count += 1
    assert count == findings.count(" points ") >= 5
    verdicts = [verdict for *_, verdict in rows]
    assert verdicts.count("contradicted") > len(verdicts) / 2, "README says that most comparisons contradict the claims"


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_printed_run_has_the_lines_of_a_real_run(page: str, tmp_path: Path) -> None:
    block = next(block for block in blocks(ROOT / page) if "one seed: no interval" in block.text)
    words = (
        "run --protocol fewshot-5way1shot --method refilled --dataset tiny --limit-steps 2 --set protocol.episodes=50"
    )
    words += " --set protocol.queries=3"
    places = ["--results", str(tmp_path / "runs"), "--data", str(tmp_path / "data")]
    run = CliRunner().invoke(app, [*words.split(), *places])
    assert run.exit_code == 0, run.output
    header = next(line for line in run.stdout.splitlines() if line.startswith("seed "))
    notes = [line for line in run.stdout.splitlines() if line.startswith(("one seed", "±"))]
    assert [line for line in block.text.splitlines() if line.startswith(("seed  ", "one seed", "±"))] == [
        header,
        *notes,
    ]
