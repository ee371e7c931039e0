"""The commands ``results list``, ``merge`` and ``remove``, and several folders of results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.records.store import Store
from tests.records.making import make_record

from .conftest import Call


def save(folder: Path, method: str, seed: int, value: float, **changes: Any) -> str:
    record = make_record(
        "distill-cross", method, seed, value, n=4, intervals={"image": {"half_width": 0.02, "n": 4}},
        references={"chance": {"value": 0.1, "intervals": {}}}, facts={"classes": 10, "images_per_class": 2}, **changes,
    )  # fmt: skip
    store = Store(folder)
    store.check_writable()
    labels = np.arange(4)
    store.save(
        record, {"labels": labels, "images": labels, "predicted_student": labels % (seed + 2 + (method == "kd"))}
    )
    return str(record["key"])


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders: methods ce and kd of three seeds each."""
    for seed in range(3):
        save(tmp_path / "a", "ce", seed, 0.5 + seed / 100)
        save(tmp_path / "b", "kd", seed, 0.6 + seed / 50)
    return tmp_path / "a", tmp_path / "b"


def test_commands_read_several_folders_together(call: Call, folders: tuple[Path, Path], tmp_path: Path) -> None:
    both = ["--results", "a", "--results", "b"]
    shown = call("leaderboard", *both)
    assert shown.returncode == 0, shown.stderr
    assert "61.00" not in call("leaderboard", "--results", "a").stdout
    assert "62.00" in shown.stdout
    assert "51.00" in shown.stdout
    compared = call("compare", "kd", "ce", *both, "--details")
    assert "kd is better than ce by 11.0 points" in compared.stdout, compared.stderr
    assert "± image" in compared.stdout, "the arrays of both folders are read"
    assert call("plot", "cost", *both, "--out", "figures").returncode == 0
    assert call("report", *both, "--out", "page.html").returncode == 0
    assert (tmp_path / "page.html").read_text().count("distill-cross") > 3
    missing = call("leaderboard", "--results", "a", "--results", "c")
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    (tmp_path / "empty").mkdir()
    assert "no records in empty" in call("leaderboard", "--results", "a", "--results", "empty").stderr
    filtered = call("leaderboard", *both, "--protocol", "fewshot")
    assert "is of that protocol and data set" in filtered.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--protocol", "distill-cross", "--method", "ce"], ["sweep", "--protocols", "distill-cross"], ["status"],
        ["show", "1234"], ["verify", "1234"], ["results", "remove", "--method", "ce"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_commands_of_one_folder_refuse_two(call: Call, folders: tuple[Path, Path], words: list[str]) -> None:
    refused = call(*words, "--results", "a", "--results", "b")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--results is given 2 times" in refused.stderr


def test_list_shows_keys_and_filters(call: Call, folders: tuple[Path, Path], tmp_path: Path) -> None:
    key = save(tmp_path / "a", "ce", 7, 0.0, status="failed", error="why")
    shown = call("results", "list", "--results", "a", "--results", "b", "--seeds", "1,7")
    assert shown.returncode == 0, shown.stderr
    assert len(shown.stdout.splitlines()) == 4
    assert key[:12] in shown.stdout
    assert shown.stderr.endswith("3 of 7 runs\n")
    rows = json.loads(call("results", "list", "--results", "a", "--status", "failed", "--json").stdout)
    assert [(row["key"], row["seed"]) for row in rows] == [(key, 7)]
    assert "a run is done or failed" in call("results", "list", "--results", "a", "--status", "running").stderr


def test_merge_copies_what_is_missing_and_keeps_what_is_finished(
    call: Call, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    key = save(tmp_path / "all", "ce", 0, 0.0, status="failed", error="why")
    other = save(tmp_path / "all", "ce", 1, 0.9)
    merged = call("results", "merge", "a", "b", "--results", "all")
    assert merged.returncode == 1
    assert "5 records copied to all, 0 were there already" in merged.stdout
    assert f"a: {other[:12]} has another result than in all, which is kept (0.510000 is not 0.900000)" in merged.stderr
    store = Store(tmp_path / "all")
    assert len(list(store.records())) == 6
    assert store.find(key)["value"] == 0.5
    assert store.find(other)["value"] == 0.9
    for folder in folders:
        for path, record in Store(folder).records():
            if record["key"] != other:
                assert (tmp_path / "all" / path.name).read_bytes() == path.read_bytes()
                assert (tmp_path / "all" / path.with_suffix(".npz").name).exists()
    again = call("results", "merge", "b", "--results", "all")
    assert (again.returncode, "0 records copied to all, 3 were there already" in again.stdout) == (0, True)
    assert "into itself" in call("results", "merge", "a", "--results", "a").stderr
    assert "there is no results folder nowhere" in call("results", "merge", "nowhere", "--results", "a").stderr


def test_merge_names_a_damaged_record_and_copies_the_others(
    call: Call, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    damaged = next((tmp_path / "a").glob("*.json"))
    damaged.write_text("{")
    merged = call("results", "merge", "a", "--results", "all")
    assert (merged.returncode, damaged.name in merged.stderr) == (1, True)
    assert "2 records copied" in merged.stdout


def test_remove_takes_only_what_is_named(call: Call, folders: tuple[Path, Path], tmp_path: Path) -> None:
    save(tmp_path / "a", "kd", 5, 0.7)
    dry = call("results", "remove", "--method", "ce", "--seeds", "0-1", "--results", "a", "--dry-run")
    assert "2 runs would be removed from a" in dry.stdout
    assert len(list((tmp_path / "a").glob("*.json"))) == 4
    done = call("results", "remove", "--method", "ce", "--seeds", "0-1", "--results", "a")
    assert (done.returncode, "2 runs removed from a" in done.stdout) == (0, True)
    assert sorted((r["method"], r["seed"]) for _, r in Store(tmp_path / "a").records()) == [("ce", 2), ("kd", 5)]
    assert len(list((tmp_path / "a").glob("*.npz"))) == 2
    (key,) = (r["key"] for _, r in Store(tmp_path / "a").records() if r["method"] == "kd")
    assert call("results", "remove", key[:8], "--results", "a").returncode == 0
    assert Store(tmp_path / "a").find(key) is None
    none = call("results", "remove", "--method", "rkd", "--results", "a")
    assert (none.returncode, "0 runs removed" in none.stdout) == (1, True)
    assert "say what to remove" in call("results", "remove", "--results", "a").stderr


def test_remove_leaves_a_run_that_another_process_executes(
    call: Call, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    store = Store(tmp_path / "a")
    key = next(record["key"] for _, record in store.records())
    with store.locks.acquire(key):
        kept = call("results", "remove", "--method", "ce", "--results", "a")
    assert (kept.returncode, "it is running" in kept.stderr) == (1, True)
    assert [record["key"] for _, record in store.records()] == [key]
