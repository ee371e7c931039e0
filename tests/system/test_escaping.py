from __future__ import annotations

import csv
import io
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from benchmark.system.escaping import SPELLED, csv_cell, latex, markdown, visible
from benchmark.system.files import file_name, plain_name
from tests.hostile import HOSTILE

NAMES = st.one_of(
    st.sampled_from(HOSTILE), st.text(max_size=20), st.text("[]()<>!*_`#|\\&~$-+=@ \n\ra1.:/", max_size=20)
)
FUZZED = settings(max_examples=150, deadline=None, derandomize=True)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"), ("a\nb", r"a\nb"), ("a\u202eb", r"a\u202eb"), ("\udcff", r"\udcff"),
        ("\x9b1m", r"\x9b1m"), ("a\u2028b", r"a\u2028b"), ("photos[old]", "photos[old]"), ("花 é", "花 é"),
        ("👩‍👩‍👧", "👩‍👩‍👧"), ("\\", "\\"),
    ],
)  # fmt: skip
def test_visible_shows_controls_as_escapes_and_nothing_else(text: str, shown: str) -> None:
    assert visible(text) == shown


@FUZZED
@given(NAMES)
def test_visible_text_obeys_no_terminal(text: str) -> None:
    assert not {unicodedata.category(sign) for sign in visible(text) if sign not in "\u200c\u200d"} & {
        "Cc", "Cf", "Cs", "Zl", "Zp",
    }  # fmt: skip
    visible(text).encode()


@FUZZED
@given(NAMES)
def test_csv_cell_is_one_cell_and_no_formula(text: str) -> None:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow([csv_cell(text), "end"])
    ((cell, end),) = csv.reader(io.StringIO(buffer.getvalue()))
    assert end == "end"
    assert cell.removeprefix("'") == visible(text).removeprefix("'")
    assert cell[:1] not in ("=", "+", "-", "@")


def test_csv_cell_leaves_numbers_alone() -> None:
    assert [csv_cell(value) for value in (-1.5, 3, None)] == [-1.5, 3, None]


@FUZZED
@given(NAMES)
def test_markdown_shows_the_text_and_nothing_else(text: str) -> None:
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    for source in (f"| {markdown(text)} | x |\n|---|---|\n| {markdown(text)} | x |", f"- {markdown(text)}: x"):
        tokens = parser.parse(source)
        inline = [token for token in tokens if token.type == "inline"]
        assert not {token.tag for token in tokens} - {"table", "thead", "tbody", "tr", "th", "td", "ul", "li", "p", ""}
        for token in inline:
            assert {child.type for child in token.children or ()} <= {"text", "text_special"}
        shown = "".join(child.content for child in inline[0].children or ())
        assert shown.removesuffix(": x").strip() == visible(text).strip()


@FUZZED
@given(NAMES)
def test_latex_holds_no_command_of_the_text(text: str) -> None:
    made = latex(text)
    for command in (
        r"\textbackslash{}", r"\textasciicircum{}", r"\textasciitilde{}", r"\textasciigrave{}", r"\textquotesingle{}",
        r"\textquotedbl{}", r"\textless{}", r"\textgreater{}", r"\textbar{}", r"\textdagger{}", r"$\pm$", "{[}", "{]}",
        r"\{", r"\}", r"\&", r"\%", r"\_", r"\#", r"\$", "-{}",
    ):  # fmt: skip
        made = made.replace(command, "")
    assert not set(made) & set("\\{}[]&%_#$^~`\"'<>|")
    assert "--" not in latex(text)


def test_stream_spells_signs_that_its_encoding_lacks() -> None:
    assert "5 ± 2 †, 花\udcff".encode("ascii", SPELLED) == rb"5 +- 2 *, \u82b1\udcff"
    assert "\udcff ±".encode("utf-8", SPELLED) == b"\\udcff \xc2\xb1"


@FUZZED
@given(NAMES)
def test_file_names_are_plain_bounded_and_distinct(text: str) -> None:
    for name in (file_name(text), f"x{plain_name(text, 50)}"):
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
        assert 0 < len(name) < 120
        assert name[0] not in ".-"
    assert file_name(text) != file_name(text + ":")
    assert file_name(file_name(text)) == file_name(text)
