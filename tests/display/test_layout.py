from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from benchmark.display.layout import lay_out, wrap

COLUMNS = ["rank", "method", "accuracy %", "± seeds", "± episodes", "seeds", "status"]
ROWS = [
    ["1", "refilled (embedding_share=0.0)", "62.52", "± 0.75", "± 0.12", "5", "done"],
    ["2", "ce", "< .001", "± 1.65", "± 0.10", "5", "done"],
    ["", "nearest mean on teacher", "81.68", "± 0.96", "", "5", "done"],
]


@pytest.mark.parametrize("width", [30, 40, 50, 60, 70, 80])
def test_no_number_breaks_and_no_line_is_wider(width: int) -> None:
    lines = lay_out("distill-overlap40  glyphs  quick+training.steps=600+training.lr=0.05", COLUMNS, ROWS, width)
    assert max(map(cell_len, lines)) <= width
    text = "\n".join(lines)
    for row in ROWS:
        for cell in row:
            if cell[:1] in "0123456789<±":
                assert cell in text, (cell, text)


def test_columns_of_one_value_move_to_the_heading_where_there_is_no_room() -> None:
    assert "status" in lay_out("t", COLUMNS, ROWS, 100)[1]
    lines = lay_out("t", COLUMNS, ROWS, 50)
    assert lines[:2] == ["t", "seeds 5, status done"]
    assert not any("done" in line for line in lines[2:])


def test_columns_that_do_not_fit_follow_below_with_the_names_of_the_rows() -> None:
    columns = ["name", *(f"c{i}" for i in range(6))]
    rows = [["first", *["10.00"] * 6], ["second", *["20.00"] * 6]]
    lines = lay_out("", columns, rows, 26)
    assert [line.split() for line in lines] == [
        ["name", "c0", "c1", "c2"], ["first", *["10.00"] * 3], ["second", *["20.00"] * 3], [],
        ["name", "c3", "c4", "c5"], ["first", *["10.00"] * 3], ["second", *["20.00"] * 3],
    ]  # fmt: skip


def test_without_a_width_nothing_breaks_and_empty_columns_are_left_out() -> None:
    long = "word " * 100
    lines = lay_out("title " * 50, ["name", "none", "text"], [["a", "", long], ["b", "", ""]], None, "below " * 50)
    assert len(lines) == 5
    assert lines[1].split() == ["name", "text"]
    assert lines[2] == f"a     {long.strip()}"


def test_text_breaks_at_blanks_and_after_a_plus() -> None:
    assert wrap("cannot tell refilled from ce", 12) == ["cannot tell", "refilled", "from ce"]
    assert wrap("quick+training.steps=600+a=1", 22) == ["quick+", "training.steps=600+a=1"]
    assert wrap("1e+20 at 95 % of it", 11) == ["1e+20 at", "95 % of it"]
    assert wrap("", 10) == [""]


WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp", "Mn", "Me", "Cf")), max_size=30
)


@settings(max_examples=60, deadline=None)
@given(st.lists(WORDS, max_size=6), st.integers(4, 40))
def test_wrapping_keeps_every_sign_within_the_width(words: list[str], width: int) -> None:
    lines = wrap(" ".join(words), width)
    assert "".join("".join(lines).split()) == "".join(words)
    assert all(cell_len(line) <= width for line in lines)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(WORDS.map("x".__add__), WORDS.map("x".__add__), st.floats(-100, 100).map("{:.2f}".format)),
        min_size=1,
        max_size=5,
    ),
    st.integers(30, 90),
)
def test_tables_fit_every_width_and_break_no_number(rows: list[tuple[str, str, str]], width: int) -> None:
    lines = lay_out("", ["name", "text", "%"], rows, width)
    assert all(cell_len(line) <= width for line in lines)
    assert all(any(row[2] in line for line in lines) for row in rows)
