from __future__ import annotations

import io
import lzma
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmark.errors import InputError
from benchmark.records.packing import pack_records
from benchmark.records.packs import SUFFIX, Limits, members, packed_keys
from benchmark.records.schema import DamagedRecord
from benchmark.records.store import Store
from tests.records.making import make_record

DATASETS = ("other", "tiny", "tiny")
KEYS = [make_record(seed=seed, dataset=dataset)["key"] for seed, dataset in enumerate(DATASETS)]


@pytest.fixture
def loose(tmp_path: Path) -> Store:
    """Records of two data sets, one of them without arrays."""
    store = Store(tmp_path / "loose")
    store.root.mkdir()
    for seed, dataset in enumerate(DATASETS):
        arrays: dict[str, Any] = {"labels": np.arange(40, dtype=np.int32), "seen": np.full((2, 3), seed, np.float16)}
        store.save(make_record(seed=seed, dataset=dataset), arrays if seed else {})
    return store


@pytest.fixture
def packed(loose: Store, tmp_path: Path) -> Store:
    """The same records in packs."""
    shutil.copytree(loose.root, tmp_path / "packed")
    pack_records(tmp_path / "packed")
    return Store(tmp_path / "packed")


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return list(a) == list(b) and all(a[n].dtype == b[n].dtype and np.array_equal(a[n], b[n]) for n in a)


def test_packed_records_are_read_like_loose_ones(loose: Store, packed: Store) -> None:
    assert sorted(path.name for path in packed.root.iterdir()) == [
        f"fewshot-5way1shot.{name}{SUFFIX}" for name in ("other", "tiny")
    ]
    assert [(p.name, r) for p, r in packed.records()] == [(p.name, r) for p, r in loose.records()]
    assert packed.read() == loose.read()
    assert packed.select("fewshot", "tiny") == loose.select("fewshot", "tiny")
    for key in KEYS:
        assert packed.find(key) == loose.find(key)
        assert packed.resolve(key[:8]) == loose.resolve(key[:8])
        assert same(packed.arrays(packed.resolve(key)), loose.arrays(loose.resolve(key)))
    (path,) = loose.root.glob("*.s0.*.json")
    assert packed.resolve(path.name) == loose.resolve(path.name)
    assert packed.find("cd" * 32) is None
    assert packed_keys(packed.root) == {key[:12] for key in KEYS}


def test_pack_has_the_same_bytes_for_the_same_records(packed: Store, loose: Store) -> None:
    pack_records(loose.root)
    for path in packed.root.iterdir():
        assert (loose.root / path.name).read_bytes() == path.read_bytes()


def test_loose_record_takes_precedence_and_replaces_the_packed_one(packed: Store) -> None:
    packed.save(make_record(seed=1, value=0.75), {"labels": np.zeros(2)})
    for _ in range(2):
        found = packed.find(KEYS[1])
        assert found is not None
        assert found == packed.resolve(KEYS[1]) == packed.read()[0][1]
        assert found["value"] == 0.75
        assert list(packed.arrays(found)) == ["labels"]
        assert len(packed.read()[0]) == len(KEYS)
        pack_records(packed.root)
    assert not list(packed.root.glob("*.json"))


def test_damaged_loose_record_is_not_replaced_by_the_packed_one(packed: Store) -> None:
    packed.save(make_record(seed=1), {}).write_text("{")
    with pytest.raises(DamagedRecord):
        packed.find(KEYS[1])
    assert len(packed.read()[1]) == 1


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:80])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def no_xz(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04" * 100)


def archive(*members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> Callable[[Path], None]:
    """A damage: another archive in the pack's place."""

    def damage(path: Path) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, content in members:
                member = tarfile.TarInfo(name)
                member.type, member.size, member.linkname = kind, len(content), "/etc/passwd"
                tar.addfile(member, io.BytesIO(content))
        path.write_bytes(lzma.compress(buffer.getvalue()))

    return damage


def outward(path: Path) -> None:
    outside = path.parents[1] / path.name
    path.rename(outside)
    path.symlink_to(outside)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut, "is damaged"), (empty, "is damaged"), (no_xz, "is damaged"), (outward, "leads out"),
        (archive(("../x.json", b"{}")), "'../x.json' is neither"), (archive(("/x.json", b"{}")), "is neither"),
        (archive(("x.json", b""), kind=tarfile.SYMTYPE), "is neither"), (archive(("x.py", b"")), "is neither"),
        (archive(("x.json", b"{}"), ("x.json", b"{}")), "two of its members are called 'x.json'"),
    ],
)  # fmt: skip
def test_damaged_pack_is_named_in_one_line_and_stays(
    packed: Store, damage: Callable[[Path], None], reason: str
) -> None:
    pack = packed.root / f"fewshot-5way1shot.tiny{SUFFIX}"
    damage(pack)
    before = pack.read_bytes()
    good, damaged = packed.read()
    assert [r["dataset"] for r in good] == ["other"]
    (error,) = damaged
    assert str(pack) in str(error)
    assert reason in str(error)
    assert "\n" not in str(error)
    with pytest.raises(InputError, match="pack") as raised:
        packed.find(KEYS[1])
    assert not isinstance(raised.value, DamagedRecord)  # a run must not rename a pack
    assert pack.read_bytes() == before
    assert packed_keys(packed.root) == {KEYS[0][:12]}


def test_damaged_record_in_a_pack_is_named_with_its_pack(packed: Store) -> None:
    pack = packed.root / f"fewshot-5way1shot.tiny{SUFFIX}"
    name = f"fewshot-5way1shot.tiny.kd.s1.{KEYS[1][:12]}.json"
    archive((name, b'{"schema": 1}'))(pack)
    (error,) = packed.read()[1]
    assert f"{name} in " in str(error)
    assert str(pack) in str(error)
    assert "it lacks" in str(error)
    with pytest.raises(InputError, match=r"in .* is damaged"):
        packed.find(KEYS[1])


def test_arrays_in_a_cut_pack_are_damaged_and_its_records_are_read(packed: Store) -> None:
    pack = packed.root / f"fewshot-5way1shot.tiny{SUFFIX}"
    contents = dict(members(pack))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    whole = buffer.getvalue()
    pack.write_bytes(lzma.compress(whole[: whole.rindex(b".npz") + 600]))
    found = packed.find(KEYS[1])
    assert found is not None
    with pytest.raises(InputError, match=r"pack .* is damaged"):
        packed.arrays(found)


@pytest.mark.parametrize("limits", [Limits(size=1000), Limits(ratio=1, small=1000), Limits(memory=1000)])
def test_pack_beyond_the_limits_is_refused(packed: Store, limits: Limits) -> None:
    pack = packed.root / f"fewshot-5way1shot.tiny{SUFFIX}"
    with pytest.raises(InputError, match=r"pack .* is damaged"):
        list(members(pack, limits))


def test_packing_a_damaged_record_changes_nothing(loose: Store) -> None:
    (path,) = loose.root.glob("*.s1.*.npz")
    path.write_bytes(b"PK\x03\x04 no")
    before = {path.name: path.read_bytes() for path in loose.root.glob("*.tiny.*")}
    with pytest.raises(InputError, match="damaged"):
        pack_records(loose.root)
    assert {path.name: path.read_bytes() for path in loose.root.glob("*.tiny.*")} == before


def test_packed_record_of_another_run_is_damaged_and_never_found(packed: Store) -> None:
    pack = packed.root / f"fewshot-5way1shot.tiny{SUFFIX}"
    texts = [content for name, content in members(pack) if name.endswith(".json")]
    archive((f"fewshot-5way1shot.tiny.kd.s1.{KEYS[1][:12]}.json", texts[1]))(pack)
    with pytest.raises(InputError, match="its key is not that of its name"):
        packed.find(KEYS[1])
    assert len(packed.read()[1]) == 1


def test_damaged_pack_hides_no_record_of_another_pack(packed: Store) -> None:
    cut(packed.root / f"fewshot-5way1shot.tiny{SUFFIX}")
    found = packed.find(KEYS[0])
    assert found is not None
    assert packed.resolve(KEYS[0][:8]) == found
    with pytest.raises(InputError, match=r"pack .* is damaged"):
        packed.resolve(KEYS[1][:8])


def test_sparse_member_is_refused(packed: Store) -> None:
    """Its header may say that it has terabytes of zeros."""
    pack = packed.root / f"fewshot-5way1shot.tiny{SUFFIX}"
    archive(("x.json", b""), kind=tarfile.GNUTYPE_SPARSE)(pack)
    with pytest.raises(InputError, match=r"neither a record nor arrays|is damaged"):
        list(members(pack))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10**6), cut=st.integers(0, 200), put=st.binary(max_size=40))
def test_any_bytes_in_a_pack_give_its_members_or_one_line(tmp_path: Path, at: int, cut: int, put: bytes) -> None:
    pack = tmp_path / f"x{SUFFIX}"
    archive(("a.json", b"{}" * 300), ("a.npz", b"PK" * 300))(pack)
    content = bytearray(lzma.decompress(pack.read_bytes()))
    at %= len(content)
    content[at : at + cut] = put
    pack.write_bytes(lzma.compress(content))
    said = ""
    try:
        assert len(dict(members(pack))) <= 2
    except InputError as error:
        said = str(error)
    assert "\n" not in said
