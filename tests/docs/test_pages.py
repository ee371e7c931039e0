"""Pages and tables that the documentation is made of."""

from __future__ import annotations

import inspect
import re

import pytest

from benchmark.methods import METHODS
from benchmark.spec import Training
from protocols import PROTOCOLS

from ..scripts import load
from .markdown import PAGES, ROOT, name, read

pages = load("docs/generation/pages")
refresh_docs = load("tools/refresh_docs")
OWN = [method for method in METHODS.names() if METHODS.get(method).entry.__module__.startswith("benchmark.")]


@pytest.mark.parametrize("method", OWN)
def test_every_method_has_an_equation_on_its_page_and_on_the_terminal(method: str) -> None:
    text = inspect.getdoc(METHODS.get(method).entry) or ""
    plain = [part for part in text.split("\n\n") if part.startswith(pages.PLAIN)]
    assert plain
    page = pages.method_page(method)
    assert "```math" in page
    assert not any(pages.prose(part) in page for part in plain)
    assert all(pages.prose(part) in page for part in text.split("\n\n") if part not in plain)
    assert f"`{method}`" in read(ROOT / "docs/methods/index.md")


def test_every_equation_is_of_a_method_and_closes_what_it_opens() -> None:
    assert set(pages.equations()) <= set(METHODS.names())
    for method, source in pages.equations().items():
        assert source.count("{") == source.count("}"), method
        assert source.count(r"\left") - source.count(r"\leftarrow") == source.count(r"\right"), method
        assert not re.search(r"\\$", source, re.MULTILINE), method


def test_a_page_says_settings_stages_and_where_it_applies() -> None:
    page = pages.method_page("refilled")
    assert "| `method.tuples` | `mask | truncate | triplet` | `mask` |" in page
    assert "Share of the training steps that stage 1 takes; 0 leaves it out, 1 leaves stage 2 out." in page
    assert "| embedding | 50 % | kept | 0.1 |" in page
    assert "[arXiv 2205.01915](https://arxiv.org/abs/2205.01915)" in page
    assert pages.applicability("kd")["distill-cross"] is not None
    assert pages.applicability("kd")["distill-same"] is None
    assert len(pages.applicability("kd")) == len({PROTOCOLS.get(protocol).entry for protocol in PROTOCOLS.names()})


def test_a_page_tells_what_tuning_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {("distill-cross", "rkd"): {"training": {"lr": 0.05}, "method": {"angle": 12.5}}}
    monkeypatch.setattr(pages, "tuned_settings", lambda protocol, method: chosen.get((protocol, method)))
    page = pages.method_page("rkd")
    assert "`tune` searches `method.distance`, `method.angle`." in page
    assert "| `distill-cross` | `training.lr=0.05`, `method.angle=12.5` |" in page
    assert "Chosen by it" not in pages.method_page("kd")


def test_prose_is_text_and_code_is_code() -> None:
    assert pages.prose("a_b * c,\n``d_e`` [f] <g>") == r"a\_b \* c, `d_e` \[f\] &lt;g>"
    assert pages.table(["x|y"], [["`a|b`"]]) == "| x&#124;y |\n| --- |\n| `a|b` |\n"


def test_presets_are_told_with_what_they_set() -> None:
    text = pages.protocol_settings("distill-same")
    assert "| `protocol.images_per_class` | `2` | `0` |" in text
    assert "| `training.steps` | `150` | `10000` |" in text
    assert f"| `training.nesterov` | `bool` | `{Training.nesterov}` |" in pages.section_settings("training")


def test_commands_are_those_of_the_command_line() -> None:
    text = pages.commands()
    for heading in ("## run", "## data import", "## sweep", "## compare"):
        assert f"{heading}\n" in text
    assert "`--limit-steps N`" in text
    assert "```sh\npython -m benchmark" in text


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_generated_part_is_filled(page: object) -> None:
    text = read(page)  # type: ignore[arg-type]
    filled = pages.filled(text)
    assert "<!-- generated" not in filled
    assert (filled == text) == ("<!-- generated" not in text)


def test_results_are_quoted_as_they_are() -> None:
    quoting = refresh_docs.quoting()
    assert {name(page) for page in quoting} >= {"README.md", "docs/statistics.md"}
    for page in quoting:
        assert refresh_docs.refreshed(read(page)) == read(page), "run python tools/refresh_docs.py"


def test_a_quotation_of_what_is_not_there_is_an_error() -> None:
    with pytest.raises(ValueError, match="not enough values"):
        refresh_docs.refreshed("<!-- made by: table distill on nothing -->\n<!-- end -->")
