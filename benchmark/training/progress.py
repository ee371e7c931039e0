"""Where training reports to: see ``benchmark.progress``."""

from benchmark.progress import Progress, Silent

__all__ = ["Progress", "Silent"]
