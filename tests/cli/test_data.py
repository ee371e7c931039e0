"""The ``data`` commands."""

from __future__ import annotations

import json
import re
import shlex
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmark.data import DATASETS, memory_map
from benchmark.report.page.runs import rerun_command
from benchmark.system.network import is_offline
from tests.data import layouts

from .conftest import Call

SMOKE = ["--limit-steps", "2", "--set", "training.batch_size=8", "--set", "teacher.batch_size=8"]
FEW = ["--set", "protocol.episodes=40", "--set", "protocol.queries=1"]

Write = Callable[[Path], object]


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    with layouts.small():
        yield


@pytest.fixture
def cub(tmp_path: Path) -> Path:
    layouts.write_cub(tmp_path / "CUB_200_2011")
    return tmp_path / "CUB_200_2011"


def records(text: str) -> dict[str, object]:
    (record,) = json.loads(text)
    assert record["status"] == "done", record
    return dict(record)


def test_cub_is_imported_and_run(call: Call, cub: Path) -> None:
    missing = call("run", "--protocol", "fewshot-5way1shot", "--method", "refilled", "--dataset", "cub")
    assert missing.returncode == 2
    typed = "python -m benchmark data import cub --from PATH"
    assert missing.stderr.startswith("error: data set cub is not imported; type: ")
    assert typed in missing.stderr

    done = call("data", "import", "cub", "--from", str(cub), "--set", "size=16")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "cub: 600 images of 200 classes, 16 x 16 x 3"
    assert done.stdout == ""

    for dataset, split in (("cub", "cub-closerlook"), ("cub-frn", "cub-frn")):
        words = ["run", "--protocol", "fewshot-5way1shot", "--method", "refilled", "--dataset", dataset, "--json"]
        ran = call(*words, *SMOKE, *FEW)
        assert ran.returncode == 0, ran.stderr
        record = records(ran.stdout)
        assert record["dataset"] == f"{dataset}+size=16"
        data = record["data"]
        assert isinstance(data, dict)
        assert data["split"] == split
        assert re.fullmatch("[0-9a-f]{64}", data["split_hash"])
        assert data["import"] == {"size": 16, "resize": "centre", "crop": False}
        assert str(cub.parent) not in ran.stdout


@pytest.mark.parametrize(
    ("protocol", "facts"),
    [
        ("distill-cross", {"teacher_training_images": 200, "training_images": 200}),
        ("incremental-1step-1exemplars", {"training_images": 300, "exemplars_held": 100}),
    ],
)
def test_official_test_images_are_evaluated(call: Call, cub: Path, protocol: str, facts: dict[str, int]) -> None:
    """Without validation images, 2 images of each of the 200 classes train and 1 is evaluated."""
    assert call("data", "import", "cub", "--from", str(cub.parent), "--set", "size=16").returncode == 0
    words = [
        "run",
        "--protocol",
        protocol,
        "--method",
        "rkd" if "distill" in protocol else "replay",
        "--dataset",
        "cub",
    ]
    alike = ["--set", "teacher.backbone=conv4-16", "--set", "student.backbone=conv4-16"]
    ran = call(*words, *SMOKE, *alike, "--set", "protocol.val=0", "--json")
    assert ran.returncode == 0, ran.stderr
    record = records(ran.stdout)
    assert record["n"] == (100 if "distill" in protocol else 200)
    recorded = record["facts"]
    assert isinstance(recorded, dict)
    assert {name: recorded[name] for name in facts} == facts
    refused = call(*words, *SMOKE, *alike, "--set", "protocol.val=0", "--set", "protocol.split=val")
    assert refused.returncode == 2
    assert "protocol.val = 0 leaves none" in refused.stderr


def test_folder_is_a_data_set(call: Call, tmp_path: Path) -> None:
    layouts.write_folder(tmp_path / "my photos", classes=12)
    words = ["run", "--protocol", "distill-same", "--method", "kd", "--dataset", "folder:my photos", "--json"]
    ran = call(*words, *SMOKE, "--dry-run")
    assert ran.returncode == 0, ran.stderr
    assert len(list((tmp_path / "data/sets").glob("folder-my photos-*"))) == 1
    call("data", "remove", "folder:my photos")
    assert call("data", "import", "folder:my photos", "--set", "size=16").returncode == 0
    first, again = (records(call(*words, *SMOKE, "--mode", "force").stdout) for _ in range(2))
    assert str(first["dataset"]).startswith("folder:my photos+")
    assert str(first["dataset"]).endswith("+size=16")
    assert first["value"] == again["value"]
    shown = call("data", "show", "folder:my photos", "--out", "sheet.png")
    assert shown.returncode == 0
    assert "16 x 16 x 3" in shown.stdout
    assert "split_hash" in shown.stdout
    assert (tmp_path / "sheet.png").exists()


def test_name_that_is_listed_and_printed_serves_from_anywhere(call: Call, tmp_path: Path) -> None:
    layouts.write_folder(tmp_path / "some where/photos")
    (tmp_path / "elsewhere").mkdir()
    assert call("data", "show", "folder:some where/photos").returncode == 0
    assert str(tmp_path / "some where/photos") in call("data", "list").stdout
    (tmp_path / "some where").rename(tmp_path / "there")
    moved = f"folder:{tmp_path / 'there/photos'}"
    assert [call("data", word, moved).returncode for word in ("show", "verify")] == [0, 0]
    assert call("data", "remove", moved).returncode == 0


def test_list_verify_and_remove_an_import(call: Call, cub: Path, tmp_path: Path) -> None:
    def state(name: str) -> str:
        done = call("data", "list")
        assert done.returncode == 0
        return next(re.split(r"\s{2,}", line)[1] for line in done.stdout.splitlines() if line.startswith(f"{name} "))

    layouts.write_folder(tmp_path / "photos")
    assert [state(name) for name in ("tiny", "cub", "folder:PATH")] == ["embedded", "not here", "imported when used"]
    assert call("data", "import", "cub", "--from", str(cub)).returncode == 0
    assert call("data", "show", "folder:photos").returncode == 0
    assert [state(name) for name in ("cub", "cub-frn", "cub-feat")] == ["imported", "imported as cub", "not here"]
    whole = call("data", "verify")
    assert whole.returncode == 0
    assert whole.stderr.splitlines()[-1] == "folder:photos: 60 images, all as recorded"
    assert "cub: 600 images, all as recorded" in whole.stderr

    pixels = tmp_path / "data/sets/cub/images.npy"
    content = bytearray(pixels.read_bytes())
    content[-1] ^= 1
    pixels.write_bytes(content)
    harmed = call("data", "verify", "cub-frn")
    assert harmed.returncode == 2
    assert "images.npy is damaged" in harmed.stderr.splitlines()[-1]
    assert "python -m benchmark data remove cub" in harmed.stderr.splitlines()[-1]

    (tmp_path / "data/sets/cub/index.json").write_text("{")
    assert state("cub") == "damaged"
    assert call("data", "remove", "cub").returncode == 0
    assert state("cub") == "not here"
    (stored,) = (tmp_path / "data/sets").glob("folder-*")
    (tmp_path / "photos/kind 0/new.jpg").write_bytes((tmp_path / "photos/kind 0/0.jpg").read_bytes())
    (label,) = re.findall(r"folder:photos\+[0-9a-f]{8}", call("data", "list").stdout)
    assert state(label) == "imported"
    for command in ("show", "verify", "remove"):
        assert call("data", command, label).returncode == 0
    assert not stored.exists()
    again = call("data", "remove", "cub")
    assert again.returncode == 2
    assert "nothing to remove" in again.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data", "import", "tiny"], "data set tiny is embedded"),
        (["data", "download", "glyphs"], "data set glyphs is embedded"),
        (["data", "import", "cob"], "did you mean 'cub'"),
        (["data", "import", "cub"], "the files of cub are not there; type: python -m benchmark data download cub"),
        (
            ["data", "import", "cub", "--from", "nowhere"],
            "nowhere does not exist; --from names the folder CUB_200_2011",
        ),
        (["data", "import", "cub", "--set", "size"], "not of the form name=value"),
        (["data", "import", "cub", "--set", "size=1", "--set", "size=2"], "each name once"),
        (["data", "import", "cub", "--workers", "0"], "--workers"),
        (["data", "download", "miniimagenet"], "cannot be downloaded by a program"),
        (["data", "download", "cub", "--offline"], "--offline asks for nothing"),
        (["data", "verify", "cub"], "not imported; type"),
        (["data", "show", "miniimagenet"], "not imported; type: python -m benchmark data import miniimagenet --from"),
        (["run", "--protocol", "distill-same", "--method", "kd", "--dataset", "folder:nowhere"], "cannot be read"),
        (["data", "import", "folder:.", "--data", "/dev/null/x"], "not a set of images"),
    ],
)
def test_wrong_request_is_one_line_of_error(call: Call, words: list[str], message: str) -> None:
    done = call(*words)
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--protocol", "fewshot-5way1shot", "--method", "ce", "--dataset", "reaching"],
        ["data", "show", "reaching"],
    ],
)
def test_offline_refuses_a_data_set_that_uses_the_network(
    call: Call, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """A plug-in's data set that uses the network is refused with --offline only."""
    offline = []

    def reaching(root: Path) -> None:
        offline.append(is_offline())
        socket.create_connection(("127.0.0.1", 9))

    monkeypatch.setattr(DATASETS, "_registrations", dict(DATASETS._registrations))
    DATASETS.register("reaching")(reaching)
    done = call(*words, "--offline")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "error: --offline refuses all network access, and something tried to reach 127.0.0.1"
    )
    with pytest.raises(OSError, match="refused"):
        call(*words)
    assert offline == [True, False]


def test_every_command_that_may_use_the_network_has_offline(call: Call) -> None:
    for words in (["run"], ["verify"], ["data", "download"], ["data", "import"], ["data", "show"]):
        assert "--offline" in call(*words, "--help").stdout


@pytest.mark.parametrize("command", ["download", "fetch"])
def test_download_prints_the_steps_before_the_error(call: Call, command: str) -> None:
    """``fetch`` is the former name of the command."""
    lines = call("data", command, "tieredimagenet").stderr.splitlines()
    assert [line[:2] for line in lines[:-1] if line[0].isdigit()] == ["1.", "2.", "3."]


def test_unwritable_data_root_is_reported(call: Call, cub: Path) -> None:
    done = call("data", "import", "cub", "--from", str(cub), "--data", "/dev/null/x")
    assert done.returncode == 2
    assert "cannot keep data sets in /dev/null/x/sets" in done.stderr.splitlines()[-1]


def test_own_images_are_found_by_their_fingerprint(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was run on ``folder:photos`` is verified and asked for from another folder, and without the images."""
    layouts.write_folder(tmp_path / "photos", classes=8)
    grid = ["--protocols", "distill-same", "--methods", "ce", "--datasets", "folder:photos", "--limit-steps", "2"]
    call("data", "import", "folder:photos", "--set", "size=16")
    swept = call("sweep", *grid, "--results", "r", "-j", "1")
    assert swept.returncode == 0, swept.stderr
    words = ["run", "--protocol", "distill-same", "--method", "ce", "--dataset", "folder:photos", "--limit-steps", "2"]
    assert call(*words, "--results", "r", "--mode", "force").returncode == 0  # with this process's threads
    (path,) = (tmp_path / "r").glob("*.json")
    record = json.loads(path.read_text())
    assert str(tmp_path) not in path.read_text()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    results = ["--results", str(tmp_path / "r")]
    status = call("status", *results)
    assert status.returncode == 0, status.stderr
    moved = (tmp_path / "photos").rename(tmp_path / "moved")
    equal = call("verify", record["key"], *results)
    assert (equal.returncode, "equal bit for bit" in equal.stdout) == (0, True), equal.stdout + equal.stderr
    again = shlex.split(rerun_command(record))[3:]
    known = call(*again, "--limit-steps", "2", *results, "--mode", "only-cache")
    assert known.returncode == 0, known.stderr

    assert call("data", "remove", record["dataset"]).returncode == 0
    missing = call("verify", record["key"], *results)
    assert missing.returncode == 2
    assert "--dataset folder:PATH" in missing.stderr
    equal = call("verify", record["key"], *results, "--dataset", f"folder:{moved}")  # imported at 16 pixels, too
    assert (equal.returncode, "equal bit for bit" in equal.stdout) == (0, True), equal.stdout + equal.stderr
    (moved / "kind 0/0.jpg").unlink()
    other = call("verify", record["key"], *results, "--dataset", f"folder:{moved}")
    assert other.returncode == 2
    assert "is not the data set that" in other.stderr


def test_own_images_are_imported_again_at_another_size(call: Call, tmp_path: Path) -> None:
    layouts.write_folder(tmp_path / "my photos")
    assert call("data", "show", "folder:my photos").returncode == 0
    again = call("data", "import", "folder:my photos", "--set", "size=32")
    assert again.returncode == 0, again.stderr
    assert "its import with size=84, resize=squash is replaced" in again.stderr
    assert "folder:my photos+" in call("data", "list").stdout
    assert "+size=32" in call("data", "list").stdout
    assert len(list((tmp_path / "data/sets").glob("[!.]*"))) == 1


def test_remedy_of_another_size_works_as_printed(call: Call, cub: Path) -> None:
    words = ["data", "import", "cub", "--from", str(cub.parent), "--set"]
    assert call(*words, "size=16").returncode == 0
    refused = call(*words, "size=20")
    assert refused.returncode == 2
    remedy = re.search(r"first: python -m benchmark (data remove .*)", refused.stderr)
    assert remedy is not None
    assert call(*shlex.split(remedy[1])).returncode == 0
    assert call(*words, "size=20").returncode == 0


def test_damaged_pixels_are_not_trained_on(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layouts.write_folder(tmp_path / "photos", classes=8)
    words = ["run", "--protocol", "distill-same", "--method", "ce", "--dataset", "folder:photos", *SMOKE]
    assert call(*words, "--results", "r").returncode == 0
    (pixels,) = (tmp_path / "data/sets").glob("folder-*/images.npy")
    content = bytearray(pixels.read_bytes())
    content[len(content) // 2] ^= 128
    pixels.write_bytes(content)
    monkeypatch.setattr(memory_map, "_CHECKED", set())  # as another process
    harmed = call(*words, "--results", "other")
    assert harmed.returncode == 2
    assert "images.npy is damaged (images 0 to" in harmed.stderr.splitlines()[-1]
