from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmark.data import memory_map
from benchmark.data.dataset_store import import_dataset
from benchmark.data.decoding import decode
from benchmark.data.image_format import ImageFormat
from benchmark.data.importing import ConcatImages, ImageList, expect_per_class, import_images
from benchmark.data.memory_map import open_mapped
from benchmark.data.published import PublishedDataset, data_set
from benchmark.data.streaming import LazyImages, NpzImages
from benchmark.errors import InputError
from benchmark.system.progress import Silent

from .imports import MessageLog
from .layouts import noise, picture, write_folder


def image_list(files: list[Path], image_format: ImageFormat | None = None, **changes: Any) -> ImageList:
    labels = np.arange(len(files)) % 2
    return ImageList(files, labels, ("a", "b"), image_format or ImageFormat(16), **changes)


def run(images: ImageList, root: Path, workers: int = 2, progress: Any = None) -> Path:
    import_images(
        images, root / "out", name="out", settings={}, workers=workers, progress=progress or Silent(),
        folder=root / "part",
    )  # fmt: skip
    return root / "out"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{i}.png" for i in range(20)]
    for i, path in enumerate(paths):
        picture(i, 16 + i, 20).save(path)
    return paths


@pytest.fixture
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_map, "_CHUNK_BYTES", 3 * 16 * 16 * 3)


def test_decode_keeps_pixels_of_the_right_size(tmp_path: Path) -> None:
    pixels = noise(0, 16, 16, 3)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    for resize in ("squash", "centre", "cover"):
        form = ImageFormat(16, resize=resize)  # type: ignore[arg-type]
        assert np.array_equal(decode(tmp_path / "x.png", form), pixels)
        assert np.array_equal(decode((tmp_path / "x.png").read_bytes(), form), pixels)
        assert np.array_equal(decode(pixels, form), pixels)


def test_decode_resizes_and_crops(tmp_path: Path) -> None:
    """A white third left, a red third, a blue third right; 63 x 21 pixels."""
    pixels = np.repeat(np.array([[255, 255, 255], [255, 0, 0], [0, 0, 255]], np.uint8), 21, 0)[None].repeat(21, 0)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    squashed = decode(tmp_path / "x.png", ImageFormat(21))
    assert squashed[10, 2].tolist() == [255, 255, 255]
    assert squashed[10, 18].tolist() == [0, 0, 255]
    centre = decode(tmp_path / "x.png", ImageFormat(14, resize="centre"))
    assert np.abs(centre[3:-3, 3:-3].astype(int) - [255, 0, 0]).max() <= 2
    cover = decode(tmp_path / "x.png", ImageFormat(14, resize="cover"))
    with Image.open(tmp_path / "x.png") as image:
        assert np.array_equal(cover, np.asarray(image.resize((42, 14), Image.Resampling.LANCZOS).crop((14, 0, 28, 14))))
    box = np.array([42.0, 0.0, 63.0, 21.0])
    assert (decode(tmp_path / "x.png", ImageFormat(10), box) == [0, 0, 255]).all()
    beyond = np.array([41.6, -5.0, 66.0, 22.2])
    assert (decode(tmp_path / "x.png", ImageFormat(10), beyond) == [0, 0, 255]).all()
    grey = decode(tmp_path / "x.png", ImageFormat(21, channels=1))
    assert grey.shape == (21, 21, 1)
    assert grey[10, 2] == 255
    with pytest.raises(InputError, match=r"x\.png does not decode \(the bounding box .* outside"):
        decode(tmp_path / "x.png", ImageFormat(10), np.array([70.0, 0.0, 80.0, 5.0]))


def test_decode_converts_every_image_mode(tmp_path: Path) -> None:
    for mode in ("1", "L", "P", "RGBA", "CMYK", "I;16"):
        Image.new(mode, (9, 12)).save(tmp_path / "x.tiff")
        assert decode(tmp_path / "x.tiff", ImageFormat(8)).shape == (8, 8, 3)
        assert decode(tmp_path / "x.tiff", ImageFormat(8, channels=1)).shape == (8, 8, 1)


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.usefixtures("_small_chunks")
def test_import_keeps_the_order_with_any_number_of_workers(tmp_path: Path, files: list[Path], workers: int) -> None:
    opened = open_mapped(run(image_list(files), tmp_path, workers))
    for path, pixels in zip(files, opened.images, strict=True):
        with Image.open(path) as image:
            assert np.array_equal(pixels, np.asarray(image.resize((16, 16), Image.Resampling.LANCZOS)))
    assert opened.labels.tolist() == [0, 1] * 10


@pytest.mark.parametrize("content", [b"", b"no image", None], ids=["empty", "text", "cut off"])
@pytest.mark.usefixtures("_small_chunks")
def test_import_names_a_damaged_image_and_keeps_finished_chunks(
    tmp_path: Path, files: list[Path], content: bytes | None
) -> None:
    whole = files[13].read_bytes()
    files[13].write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(InputError, match=r"image file .*/13\.png does not decode .* replace or remove it") as caught:
        run(image_list(files), tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert len((tmp_path / "part" / "journal").read_text().splitlines()) == 4
    files[13].write_bytes(whole)
    log = MessageLog()
    run(image_list(files), tmp_path, progress=log)
    assert log.lines == ["out: continuing after 12 of 20 images"]
    assert len(open_mapped(tmp_path / "out").images) == 20


def test_import_refuses_an_image_of_too_many_pixels(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(InputError, match=r"does not decode \(Image size .* exceeds limit"):
        run(image_list(files[9:11]), tmp_path)


def test_import_names_a_missing_file(tmp_path: Path, files: list[Path]) -> None:
    files[7].unlink()
    with pytest.raises(InputError, match=r"7\.png cannot be read \(No such file"):
        run(image_list(files), tmp_path)


@pytest.mark.usefixtures("_small_chunks")
def test_resumed_import_decodes_a_changed_image_again(tmp_path: Path, files: list[Path]) -> None:
    class Interrupted(Silent):
        def advance(self, done: int, facts: str) -> None:
            if done >= 9:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(image_list(files), tmp_path, progress=Interrupted())
    assert not (tmp_path / "out").exists()
    Image.fromarray(noise(1, 16, 16, 3)).save(files[4])
    run(image_list(files), tmp_path)
    assert np.array_equal(open_mapped(tmp_path / "out").images[4], noise(1, 16, 16, 3))
    assert not (tmp_path / "part").exists()


@pytest.mark.usefixtures("_small_chunks")
def test_import_with_other_inputs_starts_afresh(tmp_path: Path, files: list[Path]) -> None:
    class Interrupted(Silent):
        def advance(self, done: int, facts: str) -> None:
            if done >= 9:
                raise KeyboardInterrupt

    (tmp_path / "list.csv").write_text("a")
    boxes = np.tile([1.0, 1.0, 9.0, 9.0], (20, 1))
    base: dict[str, Any] = {"sources": (tmp_path / "list.csv",), "boxes": boxes}
    changes: list[dict[str, Any]] = [
        {}, {"boxes": boxes + 1}, {"boxes": None}, {"image_format": ImageFormat(16, resize="centre")}, {"sources": ()}
    ]  # fmt: skip
    for number, changed in enumerate(changes):
        with pytest.raises(KeyboardInterrupt):
            run(image_list(files, **base), tmp_path / str(number), progress=Interrupted())
        log = MessageLog()
        run(image_list(files, **{**base, **changed}), tmp_path / str(number), progress=log)
        assert bool(log.lines) == (not changed)


def test_image_list_refuses_inconsistent_parts(files: list[Path]) -> None:
    with pytest.raises(InputError, match="20 images and 3 labels"):
        ImageList(files, np.zeros(3, np.int64), ("a",), ImageFormat(16))
    with pytest.raises(InputError, match="class 'c' has no image"):
        ImageList(files, np.arange(20) % 2, ("a", "b", "c"), ImageFormat(16))
    listed = image_list(files)
    assert expect_per_class(listed, 10, Path("place")) is listed
    with pytest.raises(InputError, match="place is not whole: class 'a' has 10 images, not 11"):
        expect_per_class(listed, 11, Path("place"))


def test_concat_images_reads_across_its_parts(tmp_path: Path) -> None:
    loaded: list[str] = []

    def load(path: Path) -> list[bytes]:
        loaded.append(path.name)
        return [f"{path.name}{i}".encode() for i in range(3)]

    parts = [LazyImages(Path(name), 3, load) for name in "abc"]
    expected = [f"{name}{i}".encode() for name in "abc" for i in range(3)]
    for size in (1, 2, 4, 9, 20):
        chain = ConcatImages(*(LazyImages(Path(name), 3, load) for name in "abc"))
        assert [x for start in range(0, 9, size) for x in chain[start : start + size]] == expected
    loaded.clear()
    assert ConcatImages(*parts)[7:9] == expected[7:9]
    assert loaded == ["c"]
    assert len(ConcatImages(noise(0, 2, 4, 4, 3), noise(1, 3, 4, 4, 3))[1:4]) == 3
    with pytest.raises(InputError, match="file x holds 3 images for 4 labels"):
        LazyImages(Path("x"), 4, load)[0:1]


def test_npz_images_read_the_requested_rows(tmp_path: Path) -> None:
    pixels = noise(3, 10, 5, 6, 3)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", other=np.arange(3), images=pixels)
        images = NpzImages(tmp_path / "x.npz", "images")
        assert len(images) == 10
        for rows in (slice(0, 3), slice(3, 4), slice(6, 20), slice(1, 3)):
            assert np.array_equal(images[rows], pixels[rows])
        assert np.array_equal(NpzImages(tmp_path / "x.npz", "images", bgr=True)[2:4], pixels[2:4, ..., ::-1])
    with pytest.raises(InputError, match=r"x\.npz is damaged"):
        NpzImages(tmp_path / "x.npz", "nothing")
    with pytest.raises(InputError, match=r"other is int64 \(3,\), not uint8"):
        NpzImages(tmp_path / "x.npz", "other")
    (tmp_path / "y.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:-200])
    with pytest.raises(InputError, match=r"y\.npz is damaged .*; get it again"):
        NpzImages(tmp_path / "y.npz", "images")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_import_continues_with_the_same_command(tmp_path: Path, number: signal.Signals) -> None:
    """A process killed while it decodes images leaves work that a second run completes to the same set."""
    write_folder(tmp_path / "photos", classes=12, images=50)
    name = f"folder:{tmp_path / 'photos'}"
    words = ["data", "import", name, "--set", "size=160", "--workers", "2"]
    command = [sys.executable, "-m", "benchmark", *words, "--data"]
    process = subprocess.Popen([*command, str(tmp_path / "root")], stderr=subprocess.PIPE, text=True)
    sets = tmp_path / "root" / "sets"
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in sets.glob(".*.part/compact/journal")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (-9 if number == signal.SIGKILL else 130), errors
    assert "Traceback" not in errors
    assert not list(sets.glob("[!.]*"))
    environment = {**os.environ, "COLUMNS": "200"}
    again = subprocess.run([*command, str(tmp_path / "root")], capture_output=True, text=True, env=environment)
    assert again.returncode == 0, again.stderr
    assert "continuing after" in again.stderr
    entry = data_set(name)
    assert isinstance(entry, PublishedDataset)
    import_dataset(entry, tmp_path / "other", None, {"size": "160"}, workers=1, progress=Silent())
    first, second = ([f.read_bytes() for f in sorted((tmp_path / r).glob("sets/f*/*"))] for r in ("root", "other"))
    assert len(first) == 3
    assert first == second


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_npz_is_read_or_refused(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    np.savez_compressed(tmp_path / "x.npz", images=noise(3, 4, 5, 6, 3))
    content = bytearray((tmp_path / "x.npz").read_bytes())
    for place, byte in changes:
        content[place % len(content)] = byte
    (tmp_path / "x.npz").write_bytes(content)
    with contextlib.suppress(InputError):
        images = NpzImages(tmp_path / "x.npz", "images")
        assert len(images[0:2]) <= 2


def test_npz_header_of_another_version_is_not_read(tmp_path: Path) -> None:
    """Its length may be 4 GiB."""
    header = b"\x93NUMPY\x02\x00" + (2**32 - 1).to_bytes(4, "little")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("images.npy", header + bytes(100))
    with pytest.raises(InputError, match=r"x\.npz is damaged \(an array in version \(2, 0\)"):
        NpzImages(tmp_path / "x.npz", "images")
