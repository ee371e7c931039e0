"""A new method is one file: listings, pages, figures and the leaderboard need no other edit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

METHOD = '''
"""Squared distance of logits."""

from benchmark.methods import METHODS
from benchmark.methods.kd import KD


@METHODS.register("logit-distance")
class LogitDistance(KD):
    """Match the teacher's logits. Doe, Journal of Examples 2026.

    loss = CE(z_s, y) + mean (z_s - z_t)^2
    """

    equation = r"""
    \\mathcal{L} = \\mathrm{CE}(z_s, y) + \\mathrm{mean}\\left(z_s - z_t\\right)^2
    """
'''

PROGRAM = """
import sys

import benchmark.methods

benchmark.methods.__path__.append(sys.argv[1])  # the file stands in the package
sys.path.insert(0, "docs/generation")

import pages
from benchmark.cli import main
from benchmark.report.figures.method_styles import method_styles
from benchmark.report.leaderboard import leaderboard
from tests.report.test_leaderboard import record

new = "logit-distance"
page = pages.method_page(new)
assert page.startswith(f"# {new}"), page
assert "```math" in page
assert "z_s - z_t" in page
assert "`method.temperature`" in page
assert "Match the teacher's logits" in pages.methods_table()
assert f"`kd`, `{new}`" in pages.families_table()
assert f"| `{new}` |" in pages.applicability_table()
styles = method_styles()
assert list(styles.values()).count(styles[new]) == 1
assert styles[new].color in {styles[name].color for name in ("kd", "dkd", "dist")}
assert new in set(leaderboard([record(new, seed, 0.5) for seed in (0, 1)])["method"])
sys.argv = ["benchmark", "list", "methods"]
try:
    main()
except SystemExit as end:
    assert not end.code
"""


def test_new_method_file_appears_in_listing_pages_styles_and_leaderboard(tmp_path: Path) -> None:
    (tmp_path / "logit_distance.py").write_text(METHOD, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "logit-distance" in done.stdout
