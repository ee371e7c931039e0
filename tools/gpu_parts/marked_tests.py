"""The tests that are marked ``cuda``, run by pytest in a process of their own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from gpu_parts.report import Finding, Part, Setup, judged, skipped

ROOT = Path(__file__).parents[2]


def marked_files() -> list[str]:
    """Return the test files with tests marked ``cuda``; to collect all others would take most of a minute."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path.relative_to(ROOT)) for path in files if "mark.cuda" in path.read_text(encoding="utf-8")]


def run_marked_tests(on_gpu: bool, seconds: float) -> Finding:
    """Run the tests and count their outcomes. On a GPU none may be skipped.

    Args:
        on_gpu: Whether the checked device is a CUDA GPU.
        seconds: Seconds after which the tests are ended.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider", f"--junitxml={report}"]
        done = subprocess.run(
            [*command, *marked_files()], cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False
        )
        if not report.exists():
            last = (done.stdout + done.stderr).strip().splitlines()[-1:]
            return judged(False, f"pytest ended with {done.returncode}: {''.join(last)}")
        suites = list(ElementTree.parse(report).getroot().iter("testsuite"))
    total, failed, errors, missed = (
        sum(int(suite.get(name, 0)) for suite in suites) for name in ("tests", "failures", "errors", "skipped")
    )
    passed = total - failed - errors - missed
    text = f"{passed} passed, {failed + errors} failed, {missed} skipped"
    if not on_gpu and missed == total > 0 and done.returncode == 0:
        return skipped(f"{text}: they need CUDA")
    holds = done.returncode == 0 and passed > 0 and missed == 0
    return judged(holds, text, passed=passed, failed=failed + errors, skipped=missed)


def check(part: Part, setup: Setup) -> None:
    """Run the part."""
    part.check("tests marked cuda", lambda: run_marked_tests(setup.on_gpu, part.left()))
