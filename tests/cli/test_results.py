from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from benchmark.hashing import content_key
from benchmark.records.store import Store
from tests.records.making import make_failed, make_record

from .conftest import Call

VALUES = {
    ("refilled", "distill-cross"): [0.72, 0.73, 0.715, 0.725],
    ("ce", "distill-cross"): [0.64, 0.65, 0.645, 0.635],
    ("rkd", "distill-cross"): [0.71, 0.735, 0.72, 0.72],
    ("refilled", "distill-same"): [0.80, 0.81, 0.815, 0.82],
    ("ce", "distill-same"): [0.63, 0.64, 0.63, 0.65],
}


@pytest.fixture
def runs(tmp_path: Path) -> Store:
    """Records of three methods in the default folder of commands; one method lacks a protocol."""
    store = Store(tmp_path / "results/runs")
    store.check_writable()
    for (method, protocol), values in VALUES.items():
        for seed, value in enumerate(values):
            facts = {"classes": 100}
            record = make_record(protocol, method, seed, value, dataset="glyphs", facts=facts, history=[])
            store.save(record, {})
    return store


def test_leaderboard_output_has_the_format_of_its_ending(call: Call, runs: Store, tmp_path: Path) -> None:
    for name, sign in (
        ("b.csv", "protocol,dataset"),
        ("new/b.md", "| method |"),
        ("b.tex", r"\toprule"),
        ("b.json", "{"),
    ):
        done = call("leaderboard", "--output", name)
        assert done.returncode == 0, done.stderr
        assert sign in (tmp_path / name).read_text()
    first = (tmp_path / "b.csv").read_bytes()
    assert call("leaderboard", "--output", "b.csv").returncode == 0
    assert (tmp_path / "b.csv").read_bytes() == first
    assert call("leaderboard", "--output", "b.csv", "--protocol", "distill", "--reported").returncode == 0
    with (tmp_path / "b.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["provenance"] for row in rows} == {"measured", "reported-in-paper"}
    assert [row["rank"] for row in rows if row["provenance"] == "reported-in-paper"].count("") == 92


def test_leaderboard_names_methods_that_lack_a_seed(call: Call, runs: Store) -> None:
    next(runs.root.glob("*cross*rkd.s2.*.json")).unlink()
    done = call("leaderboard")
    assert done.returncode == 0
    assert "distill-cross glyphs rkd lacks seed 2\n" in done.stderr
    assert "distill-cross glyphs: ranks over seeds 0-1,3, which every method has finished" in done.stderr
    assert "incomplete" in done.stdout


def test_compare_separates_presets_and_filters_by_preset(call: Call, runs: Store) -> None:
    """Runs with other settings get lines of their own, or are left out if ``--preset`` names one."""
    for path in list(runs.root.glob("*cross*.json")):
        record = json.loads(path.read_text())
        record.pop("sha256", None)
        record["config"]["training"]["steps"] = 600
        longer = {"preset": "quick+training.steps=600", "key": content_key(record["config"])}
        runs.save({**record, **longer, "value": record["value"] - 0.1}, {})
    both = call("compare", "refilled", "ce", "--protocol", "distill-cross")
    assert both.returncode == 0, both.stderr
    assert "distill-cross glyphs quick: refilled is better" in both.stdout
    assert "distill-cross glyphs quick+training.steps=600: refilled is better" in both.stdout
    one = call("compare", "refilled", "ce", "--protocol", "distill-cross", "--preset", "quick+training.steps=600")
    assert one.returncode == 0, one.stderr
    assert one.stdout.count("distill-cross glyphs: refilled is better") == 1
    assert "62.2" in one.stdout
    assert "72.2" not in one.stdout
    refused = call("compare", "refilled", "ce", "--preset", "paper")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "there are quick, quick+training.steps=600" in refused.stderr


def test_compare_ends_with_the_verdicts(call: Call, runs: Store) -> None:
    done = call("compare", "refilled", "ce", "rkd")
    assert done.returncode == 0, done.stderr
    assert "distill-cross glyphs: refilled is better than ce by 8.0 points" in done.stdout
    assert "distill-cross glyphs: cannot tell refilled from rkd" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("all: refilled is better than ce by 12.7 points")
    assert "not compared: distill-same glyphs: no record of rkd" in done.stderr
    rows = json.loads(call("compare", "refilled", "ce", "--protocol", "distill-same", "--json").stdout)
    assert [row["protocol"] for row in rows] == ["distill-same"]
    assert rows[0]["difference"] == pytest.approx((0.80 + 0.81 + 0.815 + 0.82 - 0.63 - 0.64 - 0.63 - 0.65) / 4)


def test_show_prints_a_run(call: Call, runs: Store) -> None:
    path = next(runs.root.glob("*cross*refilled.s1.*.json"))
    for name in (path.stem.rpartition(".")[2][:8], str(path)):
        done = call("show", name)
        assert done.returncode == 0, done.stderr
        for word in ("73.00", "± 2.00", "other images", "student.start", "cpu", "distill-cross", "chance"):
            assert word in done.stdout
    content = json.loads(path.read_text())
    del content["sha256"]
    assert json.loads(call("show", str(path), "--json").stdout) == content


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["leaderboard", "--output", "b.xlsx"], ".csv, .md, .tex, .json"),
        (["leaderboard", "--reported"], "--reported needs --output"),
        (["leaderboard", "--protocol", "fewshot"], "there are distill-cross glyphs, distill-same glyphs"),
        (["leaderboard", "--output", "/dev/null/b.csv"], "cannot write"),
        (["compare", "refilled", "kd"], "no records of 'kd' here; there are some of ce, refilled, rkd"),
        (["compare", "refilled"], "two different methods"),
        (["show", "12345678"], "no record in"),
        (["show", "fitnet"], "no run"),
        (["show", "method"], "takes a name"),
        (["show", "method", "refiled"], "did you mean 'refilled'"),
        (["show", "abcd1234", "kd"], "show takes a run"),
        (["verify", "12345678"], "no record in"),
        (["plot", "overlapp"], "did you mean 'overlap'"),
    ],
)
def test_bad_input_gives_one_line_and_exit_2(call: Call, runs: Store, words: list[str], message: str) -> None:
    done = call(*words)
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert done.stdout == ""


def test_commands_on_results_name_damaged_records(call: Call, runs: Store, tmp_path: Path) -> None:
    damaged = next(runs.root.glob("*same*ce.s3.*.json"))
    damaged.write_text("{")
    for words in (["leaderboard"], ["leaderboard", "--output", "b.csv"], ["compare", "refilled", "ce"]):
        done = call(*words)
        assert done.returncode == 1
        assert damaged.name in done.stderr


def test_plot_draws_figures_and_names_the_missing_runs_of_others(call: Call, runs: Store, tmp_path: Path) -> None:
    done = call("plot", "overlap", "significance", "--out", "figures")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"overlap-glyphs.pdf", "overlap-glyphs.png", "overlap-glyphs.csv"} <= names
    assert "significance-distill-cross-glyphs.pdf" in names
    missing = call("plot", "incremental", "--out", "figures")
    assert missing.returncode == 2
    assert "figure incremental: no finished run" in missing.stderr
    assert "overlap" in call("plot", "--list").stdout


def test_plot_all_with_nothing_to_draw_is_an_error(call: Call, tmp_path: Path) -> None:
    store = Store(tmp_path / "results/runs")
    store.check_writable()
    store.save(make_failed("distill-same", "ce"), {})
    done = call("plot", "all")
    assert done.returncode == 2
    assert "none of the figures" in done.stderr.splitlines()[-1]


def test_report_writes_one_file_with_every_run(call: Call, runs: Store, tmp_path: Path) -> None:
    done = call("report", "--out", "pages/report.html")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "pages/report.html").read_text()
    assert all(json.loads(path.read_text())["key"] in text for path in runs.root.glob("*.json"))
    assert "data:image/svg+xml" in text


def test_verify_repeats_a_run(call: Call, tmp_path: Path) -> None:
    run = ["run", "--protocol", "distill-cross", "--method", "ce", "--dataset", "tiny", "--limit-steps", "2"]
    assert call(*run).returncode == 0
    (path,) = (tmp_path / "results/runs").glob("*.json")
    done = call("verify", str(path), "--fresh-teacher")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal bit for bit" in done.stdout
    record = json.loads(path.read_text())
    del record["sha256"]
    record["value"] = abs(record["value"] - 0.5)
    path.write_text(json.dumps({**record, "sha256": content_key(record)}))
    done = call("verify", path.stem.rpartition(".")[2])
    assert done.returncode == 1
    assert "value" in done.stdout


def test_another_measure_of_the_runs_can_be_ranked_and_compared(call: Call, tmp_path: Path) -> None:
    """wa keeps more of the old classes, replay is ahead in accuracy; kd under another protocol has no such measure."""
    store = Store(tmp_path / "results/runs")
    store.check_writable()
    for method, value, old in (("replay", 0.6, 0.3), ("wa", 0.5, 0.4)):
        for seed in range(3):
            references = {"old": {"value": old + seed / 100 * (method == "wa"), "intervals": {}}}
            record = make_record("incremental-1step-5exemplars", method, seed, value, references=references)
            store.save(record, {"predicted_student": np.zeros(3, np.int32), "labels": np.zeros(3, np.int32)})
    store.save(make_record("distill-same", "kd", 0, 0.9), {})
    lines = call("leaderboard", "--metric", "old").stdout.splitlines()
    assert [line.split()[:3] for line in lines if line.split()[:1] in (["1"], ["2"])] == [
        ["1", "wa", "41.00"], ["2", "replay", "30.00"]
    ]  # fmt: skip
    assert "old %" in lines[1]
    assert not any("distill-same" in line for line in lines)
    verdict = call("compare", "wa", "replay", "--metric", "old", "--details").stdout
    assert "wa is better than replay by 11.0 points" in verdict
    assert "replay is better than wa" not in verdict
    wrong = call("leaderboard", "--metric", "older")
    assert (wrong.returncode, "there are accuracy, chance, old" in wrong.stderr) == (2, True)


def test_show_method_prints_the_tuned_settings(call: Call) -> None:
    text = call("show", "method", "refilled").stdout
    assert any(line.startswith("distill-cross") and "method.tuple_weight=120.0" in line for line in text.splitlines())
    assert "tuned" not in call("show", "method", "ncm").stdout
