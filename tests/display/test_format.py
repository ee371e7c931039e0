from __future__ import annotations

import pytest

from benchmark.display.format import duration, percent


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (89, "89 s"), (120, "2 min"), (5300, "88 min"), (5400, "1 h 30 min"), (12_020, "3 h 20 min")],
)
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_percent_has_two_decimals_and_a_plus_if_signed() -> None:
    assert (percent(0.12345), percent(0.1, signed=True), percent(-0.1, signed=True)) == ("12.35", "+10.00", "-10.00")
