"""Damaged things: each gives one clear line, what must be is set aside, and nothing else changes."""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import io
import json
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.data import assets
from benchmark.training.checkpoints import Checkpoint
from tests.data import layouts

RUN = ("run", "--protocol", "distill-same", "--dataset", "tiny", "--limit-steps", "2")
KD = (*RUN, "--method", "kd")
BOARD, COMPARE, SHOW = ("leaderboard",), ("compare", "kd", "ce"), ("show", "results/runs/r.json")
FOLDER = ("run", "--protocol", "distill-same", "--method", "kd", "--dataset", "folder:photos")
VERIFY = ("data", "verify")
SWEEP = ("sweep", "--grid", "grid.yaml", "--dry-run")


def command(*words: str) -> tuple[int, str]:
    """Run the command line in this process; its exit status and standard error."""
    err, before = io.StringIO(), {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setattr(sys, "argv", ["benchmark", *words])
        with contextlib.redirect_stderr(err), pytest.raises(SystemExit) as exit_:
            main()
    for number, handler in before.items():
        signal.signal(number, handler)
    assert isinstance(exit_.value.code, int)
    return exit_.value.code, err.getvalue()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two records, their teacher, an imported folder and a training that was broken off."""
    root = tmp_path_factory.mktemp("good")

    def broken_off(self: Checkpoint, state: Any) -> None:
        keep(self, state)
        if self._name != "teacher":
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("BENCHMARK_DATA", "data")
        for method in ("kd", "ce"):
            assert command(*RUN, "--method", method)[0] == 0
        layouts.write_folder(root / "photos", classes=4)
        assert command("data", "import", "folder:photos", "--set", "size=16")[0] == 0
        keep = Checkpoint.save
        patch.setattr(Checkpoint, "due", lambda self: True)
        patch.setattr(Checkpoint, "save", broken_off)
        assert command(*KD, "--seed", "5")[0] == 130
    runs = root / "results/runs"
    (path,) = runs.glob("*.kd.*.json")
    path.rename(runs / "r.json")
    return root


Damage = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """glob: the file damaged, by ``damage``; said: words of the one line; may: globs of what may appear or change."""

    name: str
    glob: str
    damage: Damage
    words: tuple[str, ...]
    status: int
    said: tuple[str, ...]
    may: tuple[str, ...] = ()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(at: int) -> Damage:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[at if at >= 0 else len(content) + at] ^= 0x40
        path.write_bytes(content)

    return damage


def text(content: str) -> Damage:
    return lambda path: path.write_text(content)


def change(**values: Any) -> Damage:
    """Other values of JSON fields; None takes the field away."""

    def damage(path: Path) -> None:
        content = {**json.loads(path.read_bytes()), **values}
        content = {k: v for k, v in content.items() if v is not None}
        if "schema" in content:  # a record, under a right checksum
            content.pop("sha256")
            text = json.dumps(content, sort_keys=True, separators=(",", ":"))
            content["sha256"] = hashlib.sha256(text.encode()).hexdigest()
        path.write_text(json.dumps(content))

    return damage


def outward(path: Path) -> None:
    """A link in its place, to itself outside the folder."""
    outside = path.parents[2] / f"outside-{path.name}"
    path.rename(outside)
    path.symlink_to(outside)


def dangle(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere.json")


def pickled(path: Path) -> None:
    np.savez(path, predicted_student=np.array([{"a": 1}], dtype=object))


def remove(path: Path) -> None:
    path.unlink()


R, ARRAYS = "results/runs/r.json", "results/runs/*.kd.*.npz"
SETS = "data/sets/folder-photos-*/"
RECORDS: tuple[tuple[str, Damage, tuple[str, ...]], ...] = (
    ("cut", cut, ("damaged",)),
    ("empty", empty, ("damaged",)),
    ("bit of its first byte", flip(0), ("damaged",)),
    ("high bytes", lambda path: path.write_bytes(b"\xff\xfe" + path.read_bytes()), ("damaged",)),
    ("NaN", change(value=float("nan")), ("NaN is no JSON",)),
    ("no object", text("[1, 2]"), ("lacks schema",)),
    ("nested", text("[" * 200_000), ("damaged",)),
    ("lacking", change(metric=None, teacher=None), ("lacks metric, teacher",)),
    ("newer", change(schema=99), ("schema 99", "update the package")),
    ("another key", change(key="ab" * 32), ("its key is not that of its config",)),
    ("key that is a number", change(key=5), ("its key is 5",)),
    ("value that is text", change(value="0.5"), ("its value is '0.5'",)),
    ("seed that is a list", change(seed=[0]), ("its seed is [0]",)),
    ("dangling link", dangle, ("r.json",)),
    ("link out", outward, ("leads out of results/runs",)),
)
CASES = [
    *(Case(f"board: record {n}", R, d, BOARD, 1, ("r.json", *said)) for n, d, said in RECORDS),
    *(Case(f"show: record {n}", R, d, SHOW, 2, ("r.json", *said)) for n, d, said in RECORDS if d is not outward),
    *(
        Case(f"compare: arrays {n}", g, d, COMPARE, 1, ("arrays", *said))
        for n, g, d, said in (
            ("cut", ARRAYS, cut, ("damaged or gone",)),
            ("empty", ARRAYS, empty, ("damaged or gone",)),
            ("gone", ARRAYS, remove, ("damaged or gone",)),
            ("flipped", ARRAYS, flip(90), ("damaged or gone",)),
            ("flipped end", ARRAYS, flip(-20), ("damaged or gone",)),
            ("pickled", ARRAYS, pickled, ("damaged or gone",)),
            ("link out", ARRAYS, outward, ("leads out of",)),
            ("elsewhere", R, change(arrays="../../elsewhere.npz"), ("leads out of",)),
            ("at a path of its own", R, change(arrays="/etc/elsewhere.npz"), ("leads out of",)),
        )
    ),
    *(
        Case(f"teacher {n}", f"data/teachers/*/{g}", d, (*KD, "--seed", "1"), 0, ("teacher", "kept as"),
             ("data/*", "results/runs/*.s1.*"))
        for n, g, d in (
            ("cut", "weights.safetensors", cut),
            ("flipped", "weights.safetensors", flip(-5)),
            ("gone", "weights.safetensors", remove),
            ("of broken facts", "teacher.json", text("[1")),
        )
    ),
    *(
        Case(f"checkpoint {n}", f"data/checkpoints/*/{g}", d, (*KD, "--seed", "5"), 0,
             ("checkpoint", "not resumed"), ("data/checkpoints/*", "results/runs/*.s5.*"))
        for n, g, d in (
            ("cut", "*.safetensors", cut),
            ("flipped", "*.safetensors", flip(-5)),
            ("of a broken index", "*.json", cut),
            ("of another index", "*.json", change(facts={})),
        )
    ),
    Case("data: index of another format", SETS + "index.json", change(format=99), VERIFY, 2, ("of another version",)),
    *(
        Case(f"data: {n}", SETS + g, d, w, 2, (g, "is damaged"))
        for n, g, d, w in (
            ("pixels cut", "images.npy", cut, FOLDER),
            ("pixels flipped", "images.npy", flip(-5), VERIFY),
            ("pixels of another shape", "images.npy", lambda p: np.save(p, np.zeros((2, 4, 4, 3), "u1")), VERIFY),
            ("labels flipped", "annotations.npz", flip(-5), FOLDER),
            ("index cut", "index.json", cut, FOLDER),
            ("index without chunks", "index.json", change(chunks=None), VERIFY),
            ("index of no chunk", "index.json", change(chunks=[]), VERIFY),
            ("index of chunks of nothing", "index.json", change(rows=0), VERIFY),
            ("index of a shape of text", "index.json", change(shape=["2", 16, 16, 3]), FOLDER),
        )
    ),
    *(
        Case(f"grid {n}", "grid.yaml", text(content), SWEEP, 2, ("grid.yaml", said))
        for n, content, said in (
            ("broken", "protocols: [distill-same", "no YAML"),
            ("empty", "", "no mapping"),
            ("nested", "[" * 20_000, "no YAML"),
            ("with an unknown key", "protokols: x", "did you mean 'protocols'"),
            ("of wrong seeds", "{protocols: distill-same, seeds: 9-1}", "seeds"),
        )
    ),
    *(
        Case(f"--set {item[:40]}", R, lambda path: None, (*RUN[:5], "--method", "kd", "--set", item), 2, (said,))
        for item, said in (
            *((f"training.steps={v}", "training.steps") for v in ("0", "-1", "1e99", "nan", "inf", "9" * 400)),
            *((f"training.lr={v}", "training.lr") for v in ("-1", "0", "nan", "inf", "1e999")),
            *((f"{part}.batch_size=1000000000", f"{part}.batch_size") for part in ("training", "teacher")),
            ("student.backbone=conv4-999999999999", "unknown backbone"),
            ("protocol.images_per_class=1000000", "images"),
            ("protocol.test=1", "protocol.test"),
            ("method.temperature=0", "method.temperature"),
            ("teacher.seed=-1", "teacher.seed"),
            ("nowhere.x=1", "no section 'nowhere'"),
        )
    ),
    *(
        Case(f"protocol {name}", R, lambda path: None, ("run", "--protocol", name, *RUN[3:5], "--method", "ce"),
             2, (said,))
        for name, said in (
            ("fewshot-99999way1shot", "99999"),
            ("fewshot-1way1shot", "1-way"),
            ("fewshot-5way999999999shot", "999999999"),
            ("distill-overlap101", "101"),
            ("fewshot-5way99999999999999shot", "unknown protocol"),
        )
    ),
    Case("seeds", R, lambda path: None, (*KD, "--seeds", "1" + "0" * 30), 2, ("seeds",)),
    Case("seed", R, lambda path: None, (*KD, "--seed", "1" + "0" * 30), 2, ("seeds",)),
    Case("recipe", R, lambda path: None, ("run", "--recipe", "refiled-cub"), 2, ("unknown recipe", "refilled-cub")),
]  # fmt: skip


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_damaged_input_gives_one_line_and_changes_nothing_else(
    case: Case, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "here"
    shutil.copytree(good, root)
    monkeypatch.chdir(root)
    monkeypatch.setenv("BENCHMARK_DATA", "data")
    (root / "grid.yaml").write_text("")
    for path in sorted(root.glob(case.glob)):
        case.damage(path)
    before = files(root)
    status, said = command(*case.words)
    told = [line for line in said.splitlines() if line.startswith("error: ") or "damaged" in line]
    assert len(told) == 1, said
    assert all(word in told[0] for word in case.said), told[0]
    assert status == case.status, said
    assert "Traceback" not in said
    after = files(root)
    unlike = {name for name in {*before, *after} if before.get(name) != after.get(name) and "/.claims/" not in name}
    assert not {name for name in unlike if not any(fnmatch.fnmatch(name, glob) for glob in case.may)}
    if case.name.startswith("teacher"):
        assert any(".damaged/" in name for name in after)


@pytest.mark.parametrize("damage", [cut, flip(-5), empty, remove])
@pytest.mark.parametrize("name", ["emoji.webp", "emoji.json"])
def test_damaged_asset_gives_one_line(
    damage: Damage, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(assets.FOLDER, tmp_path / "assets")
    damage(tmp_path / "assets" / name)
    monkeypatch.setattr(assets.load_asset, "__kwdefaults__", {"folder": tmp_path / "assets"})
    status, said = command("data", "show", "emoji")
    assert status == 2
    (line,) = said.splitlines()
    assert line.startswith("error: embedded data file")
    assert name in line
