from __future__ import annotations

import pytest

from benchmark.errors import damage


@pytest.mark.parametrize(
    ("error", "end"),
    [(PermissionError(13, "Permission denied"), "(Permission denied)"), (ValueError("a row"), "(a row); get it again")],
)
def test_only_damage_is_mended_by_another_copy(error: Exception, end: str) -> None:
    assert damage(error) == end
