"""The label of a run: what is written is what is read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from benchmark.records.run_label import format_label, parse_label
from benchmark.settings import SECTIONS

names = st.from_regex(r"[a-z][a-z0-9_-]*", fullmatch=True)
values = st.one_of(st.integers(), st.floats(), st.booleans(), names, st.from_regex(r"[a-z0-9./:+-]*", fullmatch=True))
settings = st.builds("{}.{}={}".format, st.sampled_from(SECTIONS), st.from_regex(r"[a-z_]+", fullmatch=True), values)


@given(names, st.lists(settings, unique=True))
def test_label_is_parsed_as_it_was_formatted(preset: str, changed: list[str]) -> None:
    assert parse_label(format_label(preset, changed)) == (preset, sorted(changed))
