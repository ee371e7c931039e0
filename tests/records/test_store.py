from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.errors import InputError
from benchmark.records.schema import SCHEMA, DamagedRecord, read_record
from benchmark.records.store import Store
from benchmark.system.files import set_aside, write_atomically


def record(**changes: Any) -> dict[str, Any]:
    return {
        "schema": SCHEMA, "key": "ab" * 32, "status": "done", "protocol": "fewshot-5way1shot", "dataset": "tiny",
        "preset": "quick", "method": "kd", "seed": 0, "value": 0.1 + 0.2, "backbone": "conv4-16", "teacher": "conv4-64",
        "provenance": "measured", "metric": "accuracy", "intervals": {}, "references": {}, **changes,
    }  # fmt: skip


def test_store_finds_a_saved_record_unchanged(tmp_path: Path) -> None:
    store = Store(tmp_path)
    scores = np.arange(5, dtype=np.int32)
    path = store.save(record(), {"correct": scores})
    assert path.name == "fewshot-5way1shot.tiny.kd.s0.abababababab.json"
    found = store.find("ab" * 32)
    assert found == {**record(), "arrays": path.with_suffix(".npz").name}
    with np.load(tmp_path / found["arrays"], allow_pickle=False) as arrays:
        assert np.array_equal(arrays["correct"], scores)
    assert store.find("cd" * 32) is None
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, path.with_suffix(".npz").name]


def test_store_file_names_contain_no_folder(tmp_path: Path) -> None:
    assert Store(tmp_path).save(record(method="plug/in", dataset="folder:/x"), {}).parent == tmp_path


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"schema": 1}', b"\xff\xfe", b"[" * 100_000])
def test_store_names_and_keeps_a_damaged_record(tmp_path: Path, content: bytes) -> None:
    store = Store(tmp_path)
    path = store.save(record(), {})
    good = store.save(record(key="cd" * 32, seed=1), {})
    path.write_bytes(content)
    with pytest.raises(InputError, match=path.name):
        store.find("ab" * 32)
    assert path.read_bytes() == content
    found = dict(store.records())
    assert isinstance(found[path], InputError)
    assert found[good] == record(key="cd" * 32, seed=1)


@pytest.mark.parametrize(
    ("old", "new"), [('"seed": 0', '"seed": 1'), ("0.30000000000000004", "0.30000000000000014"), ("abab", "abaa")]
)
def test_store_refuses_a_changed_record_by_its_checksum(tmp_path: Path, old: str, new: str) -> None:
    path = Store(tmp_path).save(record(), {})
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DamagedRecord, match="damaged"):
        Store(tmp_path).find("ab" * 32)


def test_store_reads_a_record_without_checksum(tmp_path: Path) -> None:
    path = Store(tmp_path).save(record(), {})
    content = json.loads(path.read_text())
    del content["sha256"]
    path.write_text(json.dumps(content))
    assert Store(tmp_path).find("ab" * 32) == record()


def test_set_aside_renames_records_without_overwriting(tmp_path: Path) -> None:
    store = Store(tmp_path)
    asides = [set_aside(store.save(record(value=value), {})) for value in (0.1, 0.2, 0.3)]
    assert len(set(asides)) == 3
    assert [json.loads(path.read_text())["value"] for path in asides] == [0.1, 0.2, 0.3]
    assert not list(store.records())


def test_store_refuses_a_record_of_a_newer_schema(tmp_path: Path) -> None:
    path = Store(tmp_path).save(record(schema=SCHEMA + 1), {})
    with pytest.raises(InputError, match="update the package"):
        Store(tmp_path).find("ab" * 32)
    assert json.loads(path.read_text())["schema"] == SCHEMA + 1


def test_store_refuses_to_save_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        Store(tmp_path).save(record(value=float("nan")), {})
    assert list(tmp_path.iterdir()) == []


def test_write_atomically_keeps_the_old_file_if_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_store_names_a_full_disk_and_keeps_earlier_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    path = store.save(record(), {})
    kept = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="No space left on device"):
        store.save(record(value=0.7), {"scores": np.zeros(3)})
    assert path.read_bytes() == kept
    assert list(tmp_path.iterdir()) == [path]


def test_store_refuses_unwritable_and_missing_folders(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(InputError, match="--results"):
        Store(blocker / "runs").check_writable()
    with pytest.raises(InputError, match="no results folder"):
        list(Store(tmp_path / "missing").records())


def test_store_loads_arrays_and_names_damaged_or_missing_ones(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.save(record(), {"correct": np.arange(4)})
    saved = read_record(path)
    np.testing.assert_array_equal(store.arrays(saved)["correct"], np.arange(4))
    assert store.arrays(record()) == {}
    path.with_suffix(".npz").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(InputError, match=r"arrays .*\.npz are damaged or gone"):
        store.arrays(saved)
    path.with_suffix(".npz").unlink()
    with pytest.raises(InputError, match=r"arrays .*\.npz are damaged or gone"):
        store.arrays(saved)


def test_store_resolves_file_names_and_beginnings_of_keys(tmp_path: Path) -> None:
    store = Store(tmp_path)
    keys = ["abc" + "1" * 61, "abc" + "2" * 61, "def" + "3" * 61]
    paths = [store.save(record(key=key), {}) for key in keys]
    assert store.resolve(str(paths[0]))["key"] == keys[0]
    assert store.resolve(paths[1].name)["key"] == keys[1]
    for name in ("def3", keys[2], keys[2][:20]):
        assert store.resolve(name)["key"] == keys[2]
    for name, message in (
        ("abc", "no run"), ("abcd", "no record .* begins with abcd"), ("abc1" * 2, "no record"), ("x" * 8, "no run"),
        ("nowhere.json", "damaged"), (keys[2][:40] + "4" * 24, "no record"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            store.resolve(name)
    store.save(record(key="abc1" + "4" * 60), {})
    with pytest.raises(InputError, match="beginning of 2 keys"):
        store.resolve("abc1")


def test_read_record_refuses_nan_and_missing_fields(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for content, message in (
        (json.dumps(record(value=float("nan"))), "NaN is no JSON"),
        (json.dumps({k: v for k, v in record().items() if k != "teacher"}), "lacks teacher"),
        (json.dumps({k: v for k, v in record().items() if k != "metric"}), "lacks metric"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            read_record(path)
    path.write_text(json.dumps({k: v for k, v in record(status="failed").items() if k != "metric"}))
    assert read_record(path)["status"] == "failed"
