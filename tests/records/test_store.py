from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmark.errors import InputError
from benchmark.hashing import content_key
from benchmark.records import schema
from benchmark.records.arrays import checksum, from_npz, to_npz
from benchmark.records.schema import SCHEMA, DamagedRecord, read_record
from benchmark.records.store import Store
from benchmark.system.files import set_aside, write_atomically

from .making import make_config, make_failed, make_record


def record(**changes: Any) -> dict[str, Any]:
    return make_record(**{"value": 0.1 + 0.2, **changes})


KEY = record()["key"]


def test_store_finds_a_saved_record_unchanged(tmp_path: Path) -> None:
    store = Store(tmp_path)
    scores = np.arange(5, dtype=np.int32)
    path = store.save(record(), {"correct": scores})
    assert path.name == f"fewshot-5way1shot.tiny.kd.s0.{KEY[:12]}.json"
    found = store.find(KEY)
    names = path.with_suffix(".npz").name
    assert found == {**record(), "arrays": names, "arrays_sha256": checksum({"correct": scores})}
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
    good = store.save(record(seed=1), {})
    path.write_bytes(content)
    with pytest.raises(InputError, match=path.name):
        store.find(KEY)
    assert path.read_bytes() == content
    found = dict(store.records())
    assert isinstance(found[path], InputError)
    assert found[good] == record(seed=1)


@pytest.mark.parametrize(
    ("old", "new"), [('"seed": 0', '"seed": 1'), ("0.30000000000000004", "0.30000000000000014"), ("300", "301")]
)
def test_store_refuses_a_changed_record_by_its_checksum(tmp_path: Path, old: str, new: str) -> None:
    path = Store(tmp_path).save(record(), {})
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DamagedRecord, match="damaged"):
        Store(tmp_path).find(KEY)


def test_store_refuses_a_record_without_checksum(tmp_path: Path) -> None:
    path = Store(tmp_path).save(record(), {})
    content = json.loads(path.read_text())
    del content["sha256"]
    path.write_text(json.dumps(content))
    with pytest.raises(DamagedRecord, match="it lacks sha256"):
        Store(tmp_path).find(KEY)


def test_set_aside_renames_records_without_overwriting(tmp_path: Path) -> None:
    store = Store(tmp_path)
    asides = [set_aside(store.save(record(value=value), {})) for value in (0.1, 0.2, 0.3)]
    assert len(set(asides)) == 3
    assert [json.loads(path.read_text())["value"] for path in asides] == [0.1, 0.2, 0.3]
    assert not list(store.records())


def test_store_refuses_a_record_of_a_newer_schema(tmp_path: Path) -> None:
    path = Store(tmp_path).save(record(schema=SCHEMA + 1), {})
    with pytest.raises(InputError, match="update the package"):
        Store(tmp_path).find(KEY)
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
    seeds: dict[str, int] = {}
    for seed in range(2000):  # two records whose keys begin alike, and one that begins otherwise
        start = record(seed=seed)["key"][:4]
        if start in seeds:
            pair = seeds[start], seed
            break
        seeds[start] = seed
    other = next(seed for begin, seed in seeds.items() if begin != start)
    paths = [store.save(record(seed=seed), {}) for seed in (pair[0], other)]
    keys = [record(seed=seed)["key"] for seed in (pair[0], other)]
    assert store.resolve(str(paths[0]))["key"] == keys[0]
    assert store.resolve(paths[1].name)["key"] == keys[1]
    for name in (keys[0][:4], keys[1], keys[1][:20]):
        assert store.resolve(name)["key"] == (keys[0] if name == keys[0][:4] else keys[1])
    for name, message in (
        ("abc", "no run"), ("0" * 8, "no record .* begins with 0000"), ("x" * 8, "no run"),
        ("nowhere.json", "damaged"), (keys[1][:40] + "4" * 24, "no record"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            store.resolve(name)
    store.save(record(seed=pair[1]), {})
    with pytest.raises(InputError, match="beginning of 2 keys"):
        store.resolve(start)
    copy = paths[1].with_name(f"copy.{paths[1].name}")
    copy.write_bytes(paths[1].read_bytes())
    assert store.resolve(keys[1][:8])["key"] == keys[1]


def test_read_record_refuses_nan_and_missing_fields(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for content, message in (
        (json.dumps(record(value=float("nan"))), "NaN is no JSON"),
        (write(path, {k: v for k, v in record().items() if k != "teacher"}), "lacks teacher"),
        (write(path, {k: v for k, v in record().items() if k != "metric"}), "lacks metric"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            read_record(path)
    write(path, make_failed())
    assert read_record(path)["status"] == "failed"


def write(path: Path, content: dict[str, Any]) -> str:
    """Write a record with the checksum of its content, as a hostile hand would; the text."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    text = json.dumps({**content, "sha256": digest})
    path.write_text(text)
    return text


def test_read_record_refuses_inner_values_of_a_wrong_kind(tmp_path: Path) -> None:
    """Each of these once ended a command in a traceback, or was shown."""
    good = record()
    config = good["config"]
    bad: list[dict[str, Any]] = [
        {"intervals": {"episode": [1]}}, {"intervals": {"image": {"half_width": -0.1, "n": 3}}},
        {"intervals": {"image": {"half_width": 0.1, "n": "3"}}}, {"intervals": {"x": {"half_width": 0.1, "n": 3}}},
        {"references": {"chance": [1]}}, {"references": {"chance": {"value": 2.0, "intervals": {}}}},
        {"started": None}, {"started": "soon"}, {"history": [{"a": 1}]}, {"history": {}},
        {"history": [{"stage": "train", "step": 1, "ce": "x"}]},
        {"history": [{"stage": "train", "step": 1, "ce": None}]},
        {"seconds": "soon"}, {"seconds": -1.0}, {"value": 10**400}, {"value": True}, {"value": 1.5}, {"value": -0.1},
        {"x": float("inf")}, {"facts": {"a": [-float("inf")]}}, {"method": "\ud800"}, {"facts": {"\ud800": 1}},
        {"data": []}, {"data": {"name": 3}}, {"facts": 3}, {"facts": {"queries_per_episode": 0}}, {"n": -1},
        {"config": [], "key": content_key([])}, {"environment": {}}, {"status": "finished"}, {"status": None},
        {"environment": {**good["environment"], "threads": "two"}}, {"teacher_facts": {"a": {}}}, {"arrays": 3},
        {"student_facts": {"start": "fresh"}}, {"peak_memory_mb": None}, {"seed": True}, {"provenance": "reported"},
        {"config": {**config, "seed": True}}, {"config": {**config, "method": "kd"}}, {"arrays_sha256": "ab"},
    ]  # fmt: skip
    path = tmp_path / "x.json"
    write(path, good)
    assert read_record(path) == good
    for changes in bad:
        changed = {**good, **changes}
        if isinstance(changes.get("config"), dict):
            changed["key"] = content_key(changed["config"])
        path.write_text(write(path, changed).replace("Infinity", "1e400"))
        with pytest.raises(DamagedRecord, match=r"x\.json is damaged") as error:
            read_record(path)
        assert len(str(error.value)) < 400
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "forged",
    [
        {"protocol": "distill-same"}, {"dataset": "cub"}, {"method": "refilled"}, {"backbone": "resnet12"},
        {"teacher": "wrn-40-2"}, {"seed": 7}, {"preset": "quick+student.start=teacher"},
        {"preset": "quick+teacher.seed=run"},
        {"provenance": "reported-in-paper"}, {"key": "ab" * 32},
    ],
)  # fmt: skip
def test_read_record_refuses_a_label_that_its_config_does_not_bear_out(tmp_path: Path, forged: dict[str, Any]) -> None:
    path = tmp_path / "x.json"
    write(path, {**record(seed=1), **forged})
    with pytest.raises(DamagedRecord, match=f"its {next(iter(forged))} "):
        read_record(path)


def test_read_record_refuses_another_precision_than_that_of_its_config(tmp_path: Path) -> None:
    config = make_config()
    config["training"]["precision"] = "bfloat16"
    write(tmp_path / "x.json", record(config=config))
    with pytest.raises(DamagedRecord, match="its precision is 'float32'"):
        read_record(tmp_path / "x.json")


def test_a_record_under_the_name_of_another_run_is_damaged(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one, other = (store.save(record(seed=seed), {}) for seed in (0, 1))
    other.write_bytes(one.read_bytes())
    with pytest.raises(DamagedRecord, match="its key is not that of its name"):
        store.find(record(seed=1)["key"])
    good, damaged = store.read()
    assert [found["seed"] for found in good] == [0]
    assert [other.name in str(error) for error in damaged] == [True]


def test_arrays_of_another_record_are_damaged(tmp_path: Path) -> None:
    store = Store(tmp_path)
    paths = [store.save(record(seed=seed), {"correct": np.arange(4) + seed}) for seed in (0, 1)]
    paths[0].with_suffix(".npz").write_bytes(paths[1].with_suffix(".npz").read_bytes())
    with pytest.raises(InputError, match="belong to another run"):
        store.arrays(read_record(paths[0]))
    assert store.arrays(read_record(paths[1]))["correct"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("ending", [".json", ".npz", ".records.tar.xz"])
def test_nothing_waits_for_a_fifo(tmp_path: Path, ending: str) -> None:
    store = Store(tmp_path)
    path = store.save(record(), {"correct": np.arange(4)})
    saved = read_record(path)
    fifo = path.with_suffix(ending)
    fifo.unlink(missing_ok=True)
    os.mkfifo(fifo)
    good, damaged = store.read()
    if ending == ".npz":
        assert (len(good), damaged) == (1, [])
        with pytest.raises(InputError, match="no plain file"):
            store.arrays(saved)
    else:
        assert [fifo.name in str(error) and "no plain file" in str(error) for error in damaged] == [True]


def test_arrays_that_ask_for_more_than_they_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 45,)})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.npy", header.getvalue() + b"0" * 64)
    with pytest.raises(ValueError, match="does not fit its size"):
        from_npz(buffer.getvalue())
    monkeypatch.setattr(schema, "MAX_ARRAY_BYTES", 10_000)
    with pytest.raises(ValueError, match="unpack to more than 10,000 bytes"):
        from_npz(to_npz({"a": np.zeros(10_000)}, compress=True))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_of_a_record_give_a_record_or_one_line(tmp_path: Path, data: st.DataObject) -> None:
    """Bytes are changed, inserted or cut, or a value anywhere in the record is replaced under a right checksum."""
    path = tmp_path / "x.json"
    if data.draw(st.booleans()):
        content = bytearray(write(path, record()).encode())
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=40))
        path.write_bytes(content)
    else:
        changed = json.loads(json.dumps(record()))
        place: Any = changed
        while isinstance(place, dict | list) and place:
            parent, name = place, data.draw(st.sampled_from(list(place) if isinstance(place, dict) else [0]))
            place = place[name]
            if data.draw(st.booleans()):
                break
        parent[name] = data.draw(JSON)
        write(path, changed)
    said = ""
    try:
        assert 0 <= read_record(path)["value"] <= 1
    except InputError as error:
        said = str(error)
    assert "\n" not in said


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, 10**4), cut=st.integers(0, 20), put=st.binary(max_size=20), compress=st.booleans())
def test_any_bytes_of_arrays_give_arrays_or_one_error(at: int, cut: int, put: bytes, compress: bool) -> None:
    content = bytearray(to_npz({"a": np.arange(20), "b": np.zeros((2, 3), np.float16)}, compress=compress))
    at %= len(content)
    content[at : at + cut] = put
    with contextlib.suppress(ValueError):
        assert all(isinstance(array, np.ndarray) for array in from_npz(bytes(content)).values())
