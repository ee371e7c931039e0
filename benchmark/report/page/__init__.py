"""The report: all records as one HTML file."""

from __future__ import annotations

from benchmark.report.page.page import Illustration, make_page

__all__ = ["Illustration", "make_page"]
