"""The clock by which the seconds of a run are recorded."""

from __future__ import annotations

import time


class CostClock:
    """Wall clock to which caches add the seconds that they save.

    A cached result counts with the seconds it once took, so the order of runs makes none of them cheap.

    Attributes:
        seconds_saved: Seconds that cached results had taken when they were computed.
    """

    def __init__(self) -> None:
        self.seconds_saved = 0.0

    def now(self) -> float:
        """Return seconds; only the difference of two readings has a meaning."""
        return time.perf_counter() + self.seconds_saved
