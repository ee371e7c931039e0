from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.data import memory_map
from benchmark.data.memory_map import MapWriter, check_pixels, chunk_rows, open_mapped, read_index
from benchmark.errors import InputError
from benchmark.system.progress import Silent

SHAPE = (11, 8, 8, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
CHUNKS = [IMAGES[start : start + 4] for start in range(0, 11, 4)]
KEYS = ["one", "two", "three"]


@pytest.fixture(autouse=True)
def _four_images_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_map, "_CHUNK_BYTES", 4 * 8 * 8 * 3 + 5)


def finish(writer: MapWriter, target: Path, **changes: Any) -> memory_map.MapIndex:
    values: dict[str, Any] = {
        "name": "sample", "classes": ("a", "b"), "labels": np.arange(11) % 2, "groups": np.arange(11) // 2,
        "official_test": None, "settings": {"size": 8}, "facts": {"form": "x"},
    }  # fmt: skip
    return writer.finish(target, **{**values, **changes})


def write(folder: Path, target: Path, **changes: Any) -> memory_map.MapIndex:
    writer = MapWriter(folder, SHAPE)
    for pixels, key in list(zip(CHUNKS, KEYS, strict=True))[writer.resume(KEYS) :]:
        writer.append(pixels, key)
    return finish(writer, target, **changes)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    write(tmp_path / "part", tmp_path / "whole")
    return tmp_path / "whole"


def test_written_set_is_opened(tmp_path: Path, whole: Path) -> None:
    opened = open_mapped(whole)
    assert isinstance(opened.images, np.memmap)
    assert not opened.images.flags.writeable
    assert np.array_equal(opened.images, IMAGES)
    assert opened.labels.tolist() == [0, 1] * 5 + [0]
    assert opened.groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert opened.official_test is None
    assert (opened.index.classes, opened.index.settings, opened.index.facts) == (("a", "b"), {"size": 8}, {"form": "x"})
    assert {path.name for path in whole.iterdir()} == {"images.npy", "annotations.npz", "index.json"}
    assert not (tmp_path / "part").exists()
    assert np.array_equal(np.load(whole / "images.npy"), IMAGES)
    assert check_pixels(whole, Silent()) == read_index(whole)
    flags = np.arange(11) > 5
    write(tmp_path / "part", tmp_path / "other", official_test=flags)
    opened_flags = open_mapped(tmp_path / "other").official_test
    assert opened_flags is not None
    assert np.array_equal(opened_flags, flags)


def test_pixel_hash_depends_on_pixels_and_shape(tmp_path: Path, whole: Path) -> None:
    index = read_index(whole)
    assert index is not None
    assert write(tmp_path / "part", tmp_path / "copy").pixels == index.pixels
    assert index.rows == chunk_rows(SHAPE) == 4
    writer = MapWriter(tmp_path / "part", SHAPE)
    writer.resume(KEYS)
    for n, pixels in enumerate(CHUNKS):
        writer.append(pixels + (n == 2), "key")
    assert finish(writer, tmp_path / "third").pixels != index.pixels


def test_opening_reads_no_pixels(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed pixel is not seen when the set is opened, but when it is verified, with the images it is among."""
    content = bytearray((whole / "images.npy").read_bytes())
    content[-3 * 192 - 1] ^= 1
    (whole / "images.npy").write_bytes(content)
    open_mapped(whole)
    with pytest.raises(InputError, match=r"images\.npy is damaged \(images 4 to 7 are not those recorded\); remove it"):
        check_pixels(whole, Silent())


@pytest.mark.parametrize("filename", ["images.npy", "annotations.npz", "index.json"])
@pytest.mark.parametrize("harm", ["gone", "short", "empty", "header"])
def test_damaged_import_is_named_with_the_remedy(whole: Path, filename: str, harm: str) -> None:
    path = whole / filename
    content = path.read_bytes()
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes({"short": content[:-40], "empty": b"", "header": b"\x01" + content[1:]}[harm])
    with pytest.raises(InputError, match=rf"{filename} is damaged .*`python -m benchmark data remove whole`") as caught:
        open_mapped(whole)
    assert "\n" not in str(caught.value)


def test_index_of_another_version_is_refused(whole: Path) -> None:
    values = json.loads((whole / "index.json").read_text())
    (whole / "index.json").write_text(json.dumps({**values, "format": 99}))
    with pytest.raises(InputError, match="another version"):
        read_index(whole)
    assert read_index(whole / "nowhere") is None
    with pytest.raises(InputError, match="there is no imported data set"):
        open_mapped(whole / "nowhere")


@pytest.mark.parametrize("done", [0, 1, 2, 3])
def test_writer_resumes_an_interrupted_one(tmp_path: Path, whole: Path, done: int) -> None:
    first = MapWriter(tmp_path / "part", SHAPE)
    assert first.resume(KEYS) == 0
    for pixels, key in list(zip(CHUNKS, KEYS, strict=True))[:done]:
        first.append(pixels, key)
    with (tmp_path / "part" / "images.npy").open("ab") as file:
        file.write(b"half a chunk")
    with (tmp_path / "part" / "journal").open("a") as file:
        file.write("key 0123")
    for name in (".journal.x.tmp", "annotations.npz", "index.json"):
        (tmp_path / "part" / name).write_bytes(b"half")
    second = MapWriter(tmp_path / "part", SHAPE)
    assert second.resume(KEYS) == done
    for pixels, key in list(zip(CHUNKS, KEYS, strict=True))[done:]:
        second.append(pixels, key)
    finish(second, tmp_path / "other")
    for folder in (tmp_path / "other", whole):
        assert sorted(path.name for path in folder.iterdir()) == ["annotations.npz", "images.npy", "index.json"]
    assert (tmp_path / "other" / "images.npy").read_bytes() == (whole / "images.npy").read_bytes()


@pytest.mark.parametrize(
    ("keys", "kept"), [(KEYS, 2), (["one", "new", "three"], 1), (["new", "two", "three"], 0), (["one"], 1)]
)
def test_resume_keeps_only_chunks_of_the_same_inputs(tmp_path: Path, keys: list[str], kept: int) -> None:
    writer = MapWriter(tmp_path / "part", SHAPE)
    writer.resume(KEYS)
    for pixels, key in zip(CHUNKS[:2], KEYS, strict=False):
        writer.append(pixels, key)
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "part", copy)
    assert MapWriter(tmp_path / "part", SHAPE).resume(keys) == kept
    content = bytearray((copy / "images.npy").read_bytes())
    content[-1] ^= 1
    (copy / "images.npy").write_bytes(content)
    assert MapWriter(copy, SHAPE).resume(keys) == min(kept, 1)
    assert MapWriter(tmp_path / "part", (11, 8, 4, 3)).resume(keys) == 0


def test_writer_refuses_to_finish_an_incomplete_set(tmp_path: Path) -> None:
    writer = MapWriter(tmp_path / "part", SHAPE)
    writer.resume(KEYS)
    writer.append(CHUNKS[0], "one")
    with pytest.raises(ValueError, match="4 of 11"):
        finish(writer, tmp_path / "whole")
    with pytest.raises(ValueError, match="a chunk of"):
        writer.append(CHUNKS[2], "two")
    assert not (tmp_path / "whole").exists()


def test_any_flipped_bit_is_found_before_the_set_is_used(whole: Path) -> None:
    """Of pixels, header and annotations some bits; of the index every byte."""
    assert check_pixels(whole, Silent()).name == "sample"
    for path in sorted(whole.iterdir()):
        content = path.read_bytes()
        step = 1 if path.name == "index.json" else 13
        for place in range(0, len(content), step):
            harmed = bytearray(content)
            harmed[place] ^= 1 << (place % 8)
            path.write_bytes(harmed)
            with pytest.raises(InputError, match=rf"{path.name} is (damaged|of another version)") as caught:
                check_pixels(whole, Silent(), again=True)
            assert "\n" not in str(caught.value)
        path.write_bytes(content)
    assert check_pixels(whole, Silent(), again=True).shape == SHAPE


def test_pixels_are_checked_once_for_each_state_of_the_file(whole: Path) -> None:
    class Counted(Silent):
        times = 0

        def begin(self, title: str, steps: int, unit: str = "steps") -> None:
            self.times += 1

    counted = Counted()
    for _ in range(3):
        check_pixels(whole, counted)
    assert counted.times == 1
    path = whole / "images.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(0, 0))
    with pytest.raises(InputError, match="images 8 to 10 are not those recorded"):
        check_pixels(whole, counted)
    assert counted.times == 2


def test_remedy_names_the_data_root(tmp_path: Path, whole: Path) -> None:
    (tmp_path / "my root" / "sets").mkdir(parents=True)
    moved = whole.rename(tmp_path / "my root" / "sets" / "folder-a b")
    (moved / "index.json").write_text("{}")
    remedy = rf"`python -m benchmark data remove 'folder-a b' --data '{tmp_path}/my root'`"
    with pytest.raises(InputError, match=remedy):
        open_mapped(moved)
