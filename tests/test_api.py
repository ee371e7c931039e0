"""The suite in a program: the same records as the command line's, bit for bit."""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import benchmark
from benchmark import METHODS, InputError, compare, leaderboard, load_records, plot, run, run_grid
from benchmark.errors import in_python
from benchmark.records.store import Store
from benchmark.system import interrupts
from benchmark.system.progress import Silent

SETTINGS = {"protocol.episodes": 50, "protocol.queries": 4, "training.batch_size": 8, "method.temperature": 2.5}
TIMES = ("started", "seconds", "student_facts", "teacher_facts", "peak_memory_mb", "environment")
KD = "fewshot-5way1shot", "kd"


def make(root: Path, *names: str, **more: Any) -> list[dict[str, Any]]:
    settings = SETTINGS if (names or KD)[1] == "kd" else {k: v for k, v in SETTINGS.items() if k[0] != "m"}
    places = {"results": root / "runs", "data": root / "data"}
    options = {"dataset": "tiny", "settings": settings, "limit_steps": 3, "progress": False, **places, **more}
    return run(*(names or KD), **options)


def test_run_gives_the_records_of_the_command(tmp_path: Path) -> None:
    words = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "benchmark", "run", "--protocol", KD[0], "--method", KD[1], "--dataset", "tiny"]
    command += ["--seeds", "0,1", "--limit-steps", "3", "--json", "--results", "typed", "--data", "other", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    typed = json.loads(done.stdout)
    called = make(tmp_path, seeds=range(2))
    for one, other in zip(typed, called, strict=True):
        assert {k: v for k, v in one.items() if k not in TIMES} == {k: v for k, v in other.items() if k not in TIMES}
        mine, theirs = (Store(tmp_path / folder).arrays(record) for folder, record in (("runs", other), ("typed", one)))
        assert {k: v.tobytes() for k, v in mine.items()} == {k: v.tobytes() for k, v in theirs.items()}
    names = [sorted(path.name for path in (tmp_path / folder).glob("*.*")) for folder in ("runs", "typed")]
    assert names[0] == names[1]
    assert [r["key"] for r in make(tmp_path, seeds=(0, 1), results=tmp_path / "typed")] == [r["key"] for r in typed]


def test_run_grid_runs_it_and_returns_its_records(tmp_path: Path) -> None:
    places = {"results": tmp_path / "runs", "data": tmp_path / "data", "progress": False}
    grid = {"datasets": "tiny", "seeds": (0, 1), "limit_steps": 2, "settings": {"training.batch_size": 8}}
    records = run_grid("distill-cross", ["ce", "kd", "pkt"], jobs=1, **grid, **places)  # kd does not apply
    assert sorted((r["method"], r["seed"]) for r in records) == [("ce", 0), ("ce", 1), ("pkt", 0), ("pkt", 1)]
    single = run("distill-cross", "pkt", dataset="tiny", seeds=1, limit_steps=2, settings=grid["settings"], **places)
    assert single == [record for record in records if (record["method"], record["seed"]) == ("pkt", 1)]
    other = run_grid("distill-cross", "ce", datasets="tiny", limit_steps=2, jobs=1, student="conv4-32", **places)
    assert [record["backbone"] for record in other] == ["conv4-32"]
    with pytest.raises(InputError, match="did you mean 'distill-cross'"):
        run_grid("distill-cros", **places)


def test_records_become_tables_and_comparisons(tmp_path: Path) -> None:
    records = [*make(tmp_path, seeds=(0, 1)), *make(tmp_path, KD[0], "ce", seeds=(0, 1))]
    read = load_records(tmp_path / "runs")
    assert sorted(r["key"] for r in read) == sorted(r["key"] for r in records)
    assert set(pd.DataFrame(read)["method"]) == {"kd", "ce"}
    means = leaderboard(read).set_index("method")["mean"]
    assert means["ce"] == pytest.approx(np.mean([r["value"] for r in records[2:]]))
    label = "kd (temperature=2.5)"
    (comparison,) = [c for c in compare(read, label, "ce", results=tmp_path / "runs") if c.conditions is not None]
    expected = [a["value"] - b["value"] for a, b in zip(records[:2], records[2:], strict=True)]
    assert comparison.differences == pytest.approx(expected)
    assert load_records(tmp_path / "runs", protocol="fewshot") == read
    with pytest.raises(InputError, match="is of that protocol and data set"):
        load_records(tmp_path / "runs", protocol="distill")


def test_a_record_prints_as_one_line_and_is_its_dictionary(tmp_path: Path) -> None:
    (record,) = make(tmp_path)
    text = f"fewshot-5way1shot tiny kd s0 {record['preset']}: accuracy {100 * record['value']:.2f} %"
    assert repr(record) == f"<{text}, key {record['key'][:12]}>"
    assert len(repr([record])) < 250
    assert record == json.loads(json.dumps(record)) == pickle.loads(pickle.dumps(record))
    (read,) = load_records(tmp_path / "runs")
    assert read.folder == tmp_path / "runs"
    failed = type(record)(protocol="p", dataset="d", method="m", seed=1, preset="quick", status="failed", error="why")
    assert "failed: why" in repr(failed)


def test_compare_and_leaderboard_find_the_folder_of_the_records(tmp_path: Path) -> None:
    for method in ("rkd", "ce"):
        make(tmp_path, "distill-cross", method, seeds=range(2), settings=None)
    records = load_records(tmp_path / "runs")
    fresh = make(tmp_path, "distill-cross", "ce", seeds=0, settings=None, mode="force")
    assert fresh[0]["arrays"] == next(r["arrays"] for r in records if r["key"] == fresh[0]["key"])
    comparisons = compare(records, "rkd", "ce")
    assert comparisons[0].within, "the arrays were read"
    assert repr(comparisons) == f"distill-cross tiny: {comparisons[0].sentence}"
    assert comparisons.table()["difference"].tolist() == [comparisons[0].paired.interval.mean]
    assert "<table" in comparisons._repr_html_()
    assert compare(tmp_path / "runs", "rkd", "ce").table().equals(comparisons.table())
    assert leaderboard(str(tmp_path / "runs")).equals(leaderboard(records))
    figure = plot(records, "curves")
    assert figure.axes
    assert plot(tmp_path / "runs", "cost").axes
    with pytest.raises(InputError, match="figure overlap: "):
        plot(records, "overlap")
    with pytest.raises(InputError, match="the records give curves-distill-cross-tiny"):
        plot(records, "curves-nothing")


@pytest.mark.parametrize("call", [leaderboard, lambda records: compare(records, "a", "b"), lambda r: plot(r, "cost")])
@pytest.mark.parametrize("records", [{"protocol": "p"}, pd.DataFrame([{"protocol": "p"}]), [1, 2], 5, []])
def test_what_is_no_list_of_records_is_refused(call: Any, records: Any) -> None:
    with pytest.raises(InputError, match="takes a list of records, as load_records gives it, or their folder"):
        call(records)


def test_run_and_load_records_warn_of_damage_and_failure(tmp_path: Path) -> None:
    make(tmp_path, seeds=(0, 1))
    damaged = min((tmp_path / "runs").glob("*.json"))
    damaged.write_text("{")
    with pytest.warns(UserWarning, match=damaged.name):
        assert len(load_records(tmp_path / "runs")) == 1
    with pytest.warns(UserWarning, match="seed 0 failed: DivergedError"):
        (record,) = make(tmp_path, settings={**SETTINGS, "training.lr": 1e30}, limit_steps=30)
    assert record["status"] == "failed"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "tinny"}, "unknown data set 'tinny'; did you mean"),
        ({"settings": {"method.temperature": "hot"}}, "method.temperature = 'hot'"),
        ({"settings": {"temperature": 1}}, "settings\\['temperature'\\] has no section"),
        ({"settings": {"training": {"lr": 1}}}, "settings\\['training'\\] is a mapping"),
        ({"settings": "training.lr=1"}, "settings='training.lr=1': settings are values by name"),
        ({"settings": [("training.lr", 1)]}, "settings are values by name"),
        ({"mode": "forced"}, "unknown mode 'forced'; known: missing, retry-failed, force, only-cache"),
        ({"mode": "retry"}, "unknown mode 'retry'"),
        ({"mode": None}, "unknown mode None"),
        ({"seeds": ()}, "different whole numbers"),
        ({"seeds": (1, 1)}, "different whole numbers"),
        ({"seeds": -1}, "different whole numbers"),
        ({"seeds": "01"}, "different whole numbers"),
        ({"preset": "papper"}, "no preset 'papper'"),
        ({"student": "conv5-16"}, "unknown backbone"),
        ({"device": "tpu"}, "unknown device"),
    ],
)
def test_run_refuses_bad_input_in_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        make(tmp_path, **changes)
    assert "\n" not in str(raised.value)
    assert isinstance(raised.value, ValueError)


def test_run_takes_numpy_numbers_and_a_student(tmp_path: Path) -> None:
    (record,) = make(
        tmp_path, seeds=np.arange(2, 3), student="conv4-32", settings={**SETTINGS, "training.lr": np.float64(0.05)}
    )
    assert (record["seed"], record["backbone"], record["config"]["training"]["lr"]) == (2, "conv4-32", 0.05)


class Interrupting(Silent):
    """Sends Ctrl-C when the student's training begins."""

    def begin(self, title: str, steps: int, unit: str = "steps") -> None:
        if title.startswith("kd"):
            signal.raise_signal(signal.SIGINT)


def test_run_stops_at_ctrl_c_and_resumes(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, progress=Interrupting())
    assert signal.getsignal(signal.SIGINT) is before
    assert not interrupts.stop_requested()
    assert not list((tmp_path / "runs").glob("*.json"))
    assert list((tmp_path / "data/checkpoints").rglob("student.json")), "the step at hand is kept"
    (record,) = make(tmp_path)
    whole = make(tmp_path, results=tmp_path / "whole", mode="force")[0]
    assert record["value"] == whole["value"]
    assert record["history"] == whole["history"]


def test_run_works_in_a_thread(tmp_path: Path) -> None:
    records: list[Any] = []
    thread = threading.Thread(target=lambda: records.extend(make(tmp_path)))
    thread.start()
    thread.join()
    assert records[0]["status"] == "done"


def test_benchmark_loads_names_on_first_use() -> None:
    program = (
        "import sys, benchmark\n"
        "assert 'benchmark.api' not in sys.modules and 'benchmark.methods' not in sys.modules\n"
        "from benchmark import BACKBONES, DATASETS, METHODS, PRETRAINED, PROTOCOLS, InputError, load_records, run\n"
        "assert all(r.names() for r in (BACKBONES, DATASETS, METHODS, PROTOCOLS))\n"
        "heavy = {'torch', 'numpy', 'pandas', 'matplotlib', 'learn2learn', 'avalanche'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    for name in benchmark.__all__:
        assert getattr(benchmark, name) is not None
    assert "refilled" in METHODS.names()


def test_messages_of_the_library_speak_python(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"use results=DIR$|name one with results=DIR$"):
        load_records(tmp_path / "none")
    with pytest.raises(InputError, match=r"limit_steps=0: at least one step"):
        make(tmp_path, limit_steps=0)
    with pytest.raises(InputError, match=r'\(mode="only-cache"\)'):
        make(tmp_path, mode="only-cache")


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("run with --mode force to replace them", 'run with mode="force" to replace them'),
        ("without --teacher a run trains its own, and --set teacher.overlap=allowed takes it",
         'without teacher a run trains its own, and settings={"teacher.overlap": "allowed"} takes it'),
        ("use --device auto or cpu", 'use device="auto" or cpu'),
        ("type: python -m benchmark data import cub --data D", "type: python -m benchmark data import cub --data D"),
    ],
)  # fmt: skip
def test_options_become_arguments(message: str, said: str) -> None:
    assert in_python(message) == said
