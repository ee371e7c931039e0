"""The check on a GPU, in its reduced form on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import benchmark.losses
from benchmark.training import select_device
from benchmark.training.term_log import TermLog
from tests.data.imports import imported
from tests.data.layouts import small, write_cifar100
from tests.scripts import ROOT, load

sys.path.insert(0, str(ROOT / "tools"))  # where Python finds its modules if the script is run
from gpu_parts import host, loss_cases, marked_tests, parity, report, speed

tool: ModuleType = load("tools/gpu_check")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """The whole script, with a CIFAR-100 of 600 images."""
    folder = tmp_path_factory.mktemp("gpu_check")
    write_cifar100(folder / "source/cifar-100-python")
    with small():
        imported("cifar100", folder / "data", folder / "source")
    command = [sys.executable, "tools/gpu_check.py", "--device", "cpu", "--small", "--out", str(folder / "out")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "--data", str(folder / "data")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done, folder / "out"


def checks_of(written: Any, part: str) -> dict[str, Any]:
    return {check["what"]: check for each in written["parts"] if each["part"] == part for check in each["checks"]}


def test_every_part_runs_on_a_cpu(finished: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, out = finished
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads((out / "gpu_check.json").read_text(encoding="utf-8"))
    assert written["held"] is True
    assert [part["part"] for part in written["parts"]] == list(tool.PARTS)
    assert written["machine"]["device"] == "cpu"
    found = {part: {each["status"] for each in checks_of(written, part).values()} for part in tool.PARTS}
    assert found["tests"] <= {"held", "skipped"}
    assert found["parity"] == {"held"}
    assert found["host"] == {"held", "measured"}
    assert found["graphs"] == found["speed"] == {"measured", "skipped"}
    assert found["pair"] == {"measured"}
    (trained,) = (check for what, check in checks_of(written, "pair").items() if what.endswith(", kd"))
    assert trained["values"]["published"] == pytest.approx(0.7066)
    assert 0 <= trained["values"]["value"] <= 1
    assert all(part["seconds"] < part["budget_seconds"] for part in written["parts"])


def test_table_has_a_row_for_each_check(finished: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, out = finished
    table = (out / "gpu_check.md").read_text(encoding="utf-8")
    assert table in done.stdout
    written = json.loads((out / "gpu_check.json").read_text(encoding="utf-8"))
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == sum(len(part["checks"]) for part in written["parts"])
    assert "| parity | one step of kd against the CPU's float64 | held | float64 " in table
    assert "| speed | ce, resnet8 at 16 px, batch 8, float32 compiled | skipped | needs CUDA |" in table


def test_phases_of_a_step_are_measured_alone(finished: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    written = json.loads((finished[1] / "gpu_check.json").read_text(encoding="utf-8"))
    steps = {what: c["values"]["milliseconds"] for what, c in checks_of(written, "speed").items() if "step of" in what}
    assert len(steps) == 8
    for what, times in steps.items():
        assert list(times) == list(speed.PHASES)
        without_teacher = what.startswith("step of ce")
        assert (
            times["teacher"] < 0.1 * times["backward"]
            if without_teacher
            else times["teacher"] > 0.05 * times["forward"]
        )


def test_failing_and_broken_checks_end_the_script_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(part: report.Part, setup: report.Setup) -> None:
        part.check("a claim", lambda: report.judged(False, "0.3 (bound 0.1)", difference=0.3))
        part.check("a broken claim", lambda: report.judged(bool(1 / 0), ""))
        part.check("a late claim", lambda: report.judged(True, ""), needs=1e9)

    def broken(part: report.Part, setup: report.Setup) -> None:
        raise RuntimeError("out of\nmemory")

    parts = {"one": tool.Planned(failing, 0.5), "two": tool.Planned(broken, 0.5)}
    monkeypatch.setattr(tool, "PARTS", parts)
    assert tool.main(["--device", "cpu", "--out", str(tmp_path), "--data", str(tmp_path), "--minutes", "1"]) == 1
    written = json.loads((tmp_path / "gpu_check.json").read_text(encoding="utf-8"))
    assert written["held"] is False
    statuses = [check["status"] for part in written["parts"] for check in part["checks"]]
    assert statuses == ["FAILED", "FAILED", "skipped", "FAILED"]
    printed = capsys.readouterr().out
    assert "| one | a claim | FAILED | 0.3 (bound 0.1) |" in printed
    assert "| one | a broken claim | FAILED | ZeroDivisionError: division by zero |" in printed
    assert "| one | a late claim | skipped | no time is left: allow more --minutes |" in printed
    assert "| two | the whole part | FAILED | RuntimeError: out of memory |" in printed


def test_missing_gpu_and_unknown_part_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not torch.cuda.is_available():
        assert tool.main(["--out", str(tmp_path)]) == 2
        assert "not available" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        tool.main(["--device", "cpu", "--parts", "speeed"])
    assert "unknown part 'speeed'" in capsys.readouterr().err


def test_unused_time_is_left_to_later_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {name: tool.Planned(lambda part, setup: None, share) for name, share in (("one", 0.75), ("two", 0.25))}
    monkeypatch.setattr(tool, "PARTS", parts)
    done = tool.run_parts(["one", "two"], report.Setup(select_device("cpu"), True, tmp_path), 100)
    assert [part["budget_seconds"] for part in done] == pytest.approx([75, 100], abs=1)


def test_missing_data_is_told_with_the_command(tmp_path: Path) -> None:
    part = report.Part("pair", 100)
    tool.pair.check(part, report.Setup(select_device("cpu"), False, tmp_path))
    ((what, finding),) = part.checks
    assert what == "repdistiller-cifar100: resnet8x4 from resnet32x4"
    assert finding.status == "skipped"
    assert f"cifar100 is not in {tmp_path}; type: python -m benchmark data " in finding.found


def test_every_loss_is_compared() -> None:
    losses = {name for name in benchmark.losses.__all__ if name.endswith(("_loss", "_entropy"))}
    assert losses == {name.partition(",")[0] for name in loss_cases.CASES}


def test_a_difference_beyond_its_bound_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    case = loss_cases.CASES["kd_loss"]
    assert parity.compare_loss(case, parity.CPU).status == "held"
    monkeypatch.setitem(parity.LOSS_BOUNDS, torch.float32, 1e-12)
    finding = parity.compare_loss(case, parity.CPU)
    assert finding.status == "FAILED"
    assert "(bound 1e-12)" in finding.found


def test_a_loss_that_reads_a_value_is_found() -> None:
    waiting = {name for name, case in loss_cases.CASES.items() if host._reads_a_value(case, parity.CPU)}
    assert waiting == host.WAITING


def test_reads_of_values_are_counted_within_steps_but_not_where_the_log_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    device = select_device("cpu")
    before = sum(host.profiled_waits("ce", device).values())
    add = TermLog.add

    def reads_every_term(self: TermLog, terms: Any) -> None:
        assert all(float(term.detach()) > 0 for term in terms.values())
        add(self, terms)

    monkeypatch.setattr(TermLog, "add", reads_every_term)
    assert sum(host.profiled_waits("ce", device).values()) == before + host.STEPS - 1


def test_failing_marked_tests_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert marked_tests.marked_files() == ["tests/training/test_on_gpu.py"]
    file = tmp_path / "test_two.py"
    file.write_text("import pytest\npytestmark = pytest.mark.slow\ndef test_a(): pass\ndef test_b(): assert 0\n")
    monkeypatch.setattr(marked_tests, "marked_files", lambda: [str(file), "-m", "slow"])
    finding = marked_tests.run_marked_tests(True, 60)
    assert finding.status == "FAILED"
    assert finding.found == "1 passed, 1 failed, 0 skipped"
