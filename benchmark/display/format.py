"""Numbers as text: durations and percentages."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Format seconds in the largest unit that fits: ``34 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def percent(share: float, *, signed: bool = False) -> str:
    """Format a share in [0, 1] as percent with two decimals, without the sign ``%``.

    Args:
        share: the number.
        signed: put a plus before positive numbers, as for differences.
    """
    return f"{100 * share:{'+' if signed else ''}.2f}"
