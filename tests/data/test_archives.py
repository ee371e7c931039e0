from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmark.data.archives import Limits, extract, is_archive
from benchmark.errors import InputError
from benchmark.system.progress import Silent

FILES = {"set/a.txt": b"first", "set/deep/b.bin": bytes(range(256)) * 100, "./set/c.txt": b""}
FORMS = {"x.tar": "w", "x.tar.gz": "w:gz", "x.tgz": "w:gz", "x.tar.bz2": "w:bz2", "x.tar.xz": "w:xz", "x.zip": ""}


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def write_tar(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))


def write_zip(path: Path, *members: tuple[str, bytes, int]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", FORMS)
def test_extract_unpacks_every_format(tmp_path: Path, name: str) -> None:
    archive = tmp_path / name
    if name.endswith(".zip"):
        write_zip(archive, ("set/", b"", stat.S_IFDIR), *((n, content, 0) for n, content in FILES.items()))
    else:
        members = [(member(n, size=len(content)), content) for n, content in FILES.items()]
        write_tar(archive, (member("set", tarfile.DIRTYPE), b""), *members, mode=FORMS[name])
    assert is_archive(archive)
    extract([archive], tmp_path / "out", Silent())
    assert tree(tmp_path / "out") == {n.removeprefix("./"): content for n, content in FILES.items()}


def test_extract_unpacks_several_archives_into_one_folder(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", ("a/x", b"1", 0))
    write_zip(tmp_path / "b.zip", ("b/x", b"2", 0))
    extract([tmp_path / "a.zip", tmp_path / "b.zip"], tmp_path / "out", Silent())
    assert tree(tmp_path / "out") == {"a/x": b"1", "b/x": b"2"}
    assert not is_archive(tmp_path / "out")
    assert not is_archive(tmp_path / "none.zip")


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        write_tar(folder / "x.tar.gz", *members, mode="w:gz")
        return folder / "x.tar.gz"

    return write


def zip_of(*members: tuple[str, bytes, int]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        write_zip(folder / "x.zip", *members)
        return folder / "x.zip"

    return write


HOSTILE = {
    "tar: up": (tar_of((member("../evil", size=1), b"x")), "leads out"),
    "tar: up from inside": (tar_of((member("a/../../evil", size=1), b"x")), "leads out"),
    "tar: absolute": (tar_of((member("/evil", size=1), b"x")), "leads out"),
    "tar: link out": (tar_of((member("a", tarfile.SYMTYPE, "../.."), b""), (member("a/evil", size=1), b"x")), "a link"),
    "tar: link inside": (tar_of((member("a", tarfile.SYMTYPE, "b"), b"")), "a link"),
    "tar: hard link": (tar_of((member("a", tarfile.LNKTYPE, "/etc/passwd"), b"")), "a link"),
    "tar: device": (tar_of((member("a", tarfile.CHRTYPE), b"")), "a device"),
    "tar: pipe": (tar_of((member("a", tarfile.FIFOTYPE), b"")), "a device"),
    "tar: one name twice": (tar_of((member("a", size=1), b"x"), (member("a", size=1), b"y")), "two of its members"),
    "tar: a file as folder": (tar_of((member("a", size=1), b"x"), (member("a/b", size=1), b"y")), "cannot unpack"),
    "tar: bomb": (tar_of((member("a", size=9 << 20), bytes(9 << 20))), "more than 8 MiB"),
    "tar: too many": (tar_of(*((member(f"f{i}"), b"") for i in range(60))), "more than 50 members"),
    "zip: up": (zip_of(("../evil", b"x", 0)), "leads out"),
    "zip: absolute": (zip_of(("/evil", b"x", 0)), "leads out"),
    "zip: drive": (zip_of(("C:evil", b"x", 0)), "leads out"),
    "zip: backslash": (zip_of(("..\\evil", b"x", 0)), "leads out"),
    "zip: link": (zip_of(("a", b"../../etc", stat.S_IFLNK | 0o777)), "a link"),
    "zip: bomb": (zip_of(("a", bytes(5 << 20), 0), ("b", bytes(5 << 20), 0)), "more than 8 MiB"),
    "zip: too many": (zip_of(*((f"f{i}", b"", 0) for i in range(60))), "more than 50 members"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_extract_refuses_hostile_archives_and_writes_nothing(tmp_path: Path, name: str) -> None:
    write, message = HOSTILE[name]
    (tmp_path / "in").mkdir()
    archive = write(tmp_path / "in")
    before = tree(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        extract([archive], tmp_path / "place" / "out", Silent(), Limits(files=50, small=8 << 20, ratio=2))
    assert archive.name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert tree(tmp_path) == before
    assert not list((tmp_path / "place").iterdir())


def test_extract_counts_written_bytes_not_the_headers(tmp_path: Path) -> None:
    write_zip(tmp_path / "x.zip", ("a", bytes(9 << 20), 0))
    content = (tmp_path / "x.zip").read_bytes()
    small = content.replace((9 << 20).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert small != content
    (tmp_path / "x.zip").write_bytes(small)
    with pytest.raises(InputError):
        extract([tmp_path / "x.zip"], tmp_path / "out", Silent(), Limits(small=8 << 20, ratio=2))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", FORMS)
def test_extract_refuses_damaged_archives(tmp_path: Path, name: str) -> None:
    archive = tmp_path / name
    content = bytes(i * 7 % 251 for i in range(100_000))
    if name.endswith(".zip"):
        write_zip(archive, ("a", content, 0))
    else:
        write_tar(archive, (member("a", size=len(content)), content), mode=FORMS[name])
    whole = archive.read_bytes()
    for part in (whole[: len(whole) // 2], b"<html>not found</html>" * 50, b""):
        archive.write_bytes(part)
        with pytest.raises(InputError, match=r"damaged or cut off.*get it again"):
            extract([archive], tmp_path / "out", Silent())
        assert not (tmp_path / "out").exists()


def test_extract_refuses_encrypted_archives(tmp_path: Path) -> None:
    write_zip(tmp_path / "x.zip", ("a", b"secret", 0))
    content = bytearray((tmp_path / "x.zip").read_bytes())
    content[content.index(b"PK\x03\x04") + 6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(InputError, match="password"):
        extract([tmp_path / "x.zip"], tmp_path / "out", Silent())


def header(kind: bytes, content: bytes, name: str = "x") -> bytes:
    """A member of a kind that says something of the next one, and the next one, which is empty."""
    info = tarfile.TarInfo(name)
    info.size, info.type = len(content), kind
    last = tarfile.TarInfo(f"file {name}")
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512) + last.tobuf(tarfile.GNU_FORMAT)


def pax(**values: str) -> bytes:
    lines = b""
    for name, value in values.items():
        rest = f" {name.replace('_', '.')}={value}\n"
        length = len(rest.encode()) + 1
        while len(str(length)) + len(rest.encode()) != length:
            length += 1
        lines += f"{length}{rest}".encode()
    return lines


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (header(tarfile.GNUTYPE_LONGNAME, bytes(200_000)), "one of its headers has 195 KiB"),
        (header(tarfile.GNUTYPE_LONGLINK, bytes(200_000)), "one of its headers has 195 KiB"),
        (header(tarfile.XHDTYPE, bytes(200_000)), "one of its headers has 195 KiB"),
        (header(tarfile.XGLTYPE, bytes(200_000)), "one of its headers has 195 KiB"),
        (
            b"".join(header(tarfile.XGLTYPE, pax(**{f"key{n}": "x" * 40_000}), f"{n}") for n in range(3)),
            "its global headers have more than 64 KiB",
        ),
        (header(tarfile.GNUTYPE_SPARSE, b""), "is a sparse file"),
        (
            header(tarfile.XHDTYPE, pax(GNU_sparse_major="1", GNU_sparse_minor="0", GNU_sparse_realsize="9")),
            "one of its members is a sparse file",
        ),
        (b"".join(header(tarfile.GNUTYPE_LONGNAME, b"a")[:1024] for _ in range(2000)), "maximum recursion depth"),
    ],
    ids=["long name", "long link", "pax", "global pax", "many global pax", "sparse", "pax sparse", "chain"],
)
def test_extract_limits_headers_before_it_reads_them(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "x.tar").write_bytes(content + bytes(1024))
    with pytest.raises(InputError, match=reason):
        extract([tmp_path / "x.tar"], tmp_path / "out", Silent())
    assert not (tmp_path / "out").exists()


def test_extract_reads_headers_of_common_size(tmp_path: Path) -> None:
    name = "folder/" * 40 + "long name"
    content = header(tarfile.GNUTYPE_LONGNAME, name.encode() + b"\0") + header(tarfile.XHDTYPE, pax(path="ä" * 90))
    (tmp_path / "x.tar").write_bytes(content + bytes(1024))
    extract([tmp_path / "x.tar"], tmp_path / "out", Silent())
    assert sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file()) == ["long name", "ä" * 90]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs on this system")
def test_extract_does_not_wait_for_a_fifo(tmp_path: Path) -> None:
    for name in ("x.tar", "x.zip"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(InputError, match="no plain file"):
            extract([tmp_path / name], tmp_path / "out", Silent())


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("samples")
    for name, mode in FORMS.items():
        if name.endswith(".zip"):
            write_zip(folder / name, ("a/b.txt", b"text" * 40, 0), ("c", bytes(600), 0))
        else:
            write_tar(
                folder / name,
                (member("a/b.txt", size=160), b"text" * 40),
                (member("c", size=600), bytes(600)),
                mode=mode,
            )
    return {name: (folder / name).read_bytes() for name in FORMS}


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(FORMS)),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 60),
)
def test_any_archive_is_unpacked_or_refused(
    tmp_path: Path, samples: dict[str, bytes], name: str, changes: list[tuple[int, int]], cut: int
) -> None:
    content = bytearray(samples[name])
    for place, byte in changes:
        content[place % len(content)] = byte
    archive = tmp_path / name
    archive.write_bytes(content[: len(content) - cut])
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    with contextlib.suppress(InputError):
        extract([archive], tmp_path / "out", Silent(), Limits(files=9, small=1 << 20))
        return
    assert not (tmp_path / "out").exists()
