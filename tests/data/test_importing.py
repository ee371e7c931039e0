from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmark.data import memory_map
from benchmark.data.importing import ConcatImages, Form, ImageList, decode, expect_per_class, import_listing
from benchmark.data.memory_map import open_mapped
from benchmark.data.published import Published, data_set
from benchmark.data.streaming import LazyImages, NpzImages
from benchmark.errors import InputError
from benchmark.system.progress import Silent

from .layouts import noise, picture, write_folder


def listing(files: list[Path], form: Form | None = None, **changes: Any) -> ImageList:
    labels = np.arange(len(files)) % 2
    return ImageList(files, labels, ("a", "b"), form or Form(16), **changes)


def run(found: ImageList, root: Path, workers: int = 2, progress: Any = None) -> Path:
    import_listing(
        found, root / "out", name="out", settings={}, workers=workers, progress=progress or Silent(),
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


def test_pixels_of_the_right_size_stay_as_they_are(tmp_path: Path) -> None:
    pixels = noise(0, 16, 16, 3)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    for resize in ("squash", "centre", "cover"):
        form = Form(16, resize=resize)  # type: ignore[arg-type]
        assert np.array_equal(decode(tmp_path / "x.png", form), pixels)
        assert np.array_equal(decode((tmp_path / "x.png").read_bytes(), form), pixels)
        assert np.array_equal(decode(pixels, form), pixels)


def test_forms_of_an_image(tmp_path: Path) -> None:
    """A white third left, a red third, a blue third right; 63 x 21 pixels."""
    pixels = np.repeat(np.array([[255, 255, 255], [255, 0, 0], [0, 0, 255]], np.uint8), 21, 0)[None].repeat(21, 0)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    squashed = decode(tmp_path / "x.png", Form(21))
    assert squashed[10, 2].tolist() == [255, 255, 255]
    assert squashed[10, 18].tolist() == [0, 0, 255]
    centre = decode(tmp_path / "x.png", Form(14, resize="centre"))
    assert np.abs(centre[3:-3, 3:-3].astype(int) - [255, 0, 0]).max() <= 2
    cover = decode(tmp_path / "x.png", Form(14, resize="cover"))
    with Image.open(tmp_path / "x.png") as image:
        assert np.array_equal(cover, np.asarray(image.resize((42, 14), Image.Resampling.LANCZOS).crop((14, 0, 28, 14))))
    box = np.array([42.0, 0.0, 63.0, 21.0])
    assert (decode(tmp_path / "x.png", Form(10), box) == [0, 0, 255]).all()
    beyond = np.array([41.6, -5.0, 99.0, 30.2])
    assert (decode(tmp_path / "x.png", Form(10), beyond) == [0, 0, 255]).all()
    grey = decode(tmp_path / "x.png", Form(21, channels=1))
    assert grey.shape == (21, 21, 1)
    assert grey[10, 2] == 255
    with pytest.raises(InputError, match=r"x\.png does not decode \(the bounding box .* outside"):
        decode(tmp_path / "x.png", Form(10), np.array([70.0, 0.0, 80.0, 5.0]))


def test_grey_and_transparent_and_indexed_images_become_what_is_asked(tmp_path: Path) -> None:
    for mode in ("1", "L", "P", "RGBA", "CMYK", "I;16"):
        Image.new(mode, (9, 12)).save(tmp_path / "x.tiff")
        assert decode(tmp_path / "x.tiff", Form(8)).shape == (8, 8, 3)
        assert decode(tmp_path / "x.tiff", Form(8, channels=1)).shape == (8, 8, 1)


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.usefixtures("_small_chunks")
def test_images_come_in_order_whatever_the_workers(tmp_path: Path, files: list[Path], workers: int) -> None:
    opened = open_mapped(run(listing(files), tmp_path, workers))
    for path, pixels in zip(files, opened.images, strict=True):
        with Image.open(path) as image:
            assert np.array_equal(pixels, np.asarray(image.resize((16, 16), Image.Resampling.LANCZOS)))
    assert opened.labels.tolist() == [0, 1] * 10


@pytest.mark.parametrize("content", [b"", b"no image", None], ids=["empty", "text", "cut off"])
@pytest.mark.usefixtures("_small_chunks")
def test_an_image_that_does_not_decode_is_named_and_the_rest_is_kept(
    tmp_path: Path, files: list[Path], content: bytes | None
) -> None:
    whole = files[13].read_bytes()
    files[13].write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(InputError, match=r"image file .*/13\.png does not decode .* replace or remove it") as caught:
        run(listing(files), tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert len((tmp_path / "part" / "journal").read_text().splitlines()) == 4
    files[13].write_bytes(whole)
    said: list[str] = []

    class Heard(Silent):
        def say(self, message: str) -> None:
            said.append(message)

    run(listing(files), tmp_path, progress=Heard())
    assert said == ["out: going on after 12 of 20 images"]
    assert len(open_mapped(tmp_path / "out").images) == 20


def test_a_picture_of_too_many_pixels_is_told(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(InputError, match=r"does not decode \(Image size .* exceeds limit"):
        run(listing(files), tmp_path)


def test_a_file_that_is_gone_is_told(tmp_path: Path, files: list[Path]) -> None:
    files[7].unlink()
    with pytest.raises(InputError, match=r"7\.png cannot be read .* get the data again"):
        run(listing(files), tmp_path)


@pytest.mark.usefixtures("_small_chunks")
def test_after_an_interruption_a_changed_image_is_decoded_again(tmp_path: Path, files: list[Path]) -> None:
    class Interrupted(Silent):
        def advance(self, done: int, facts: str) -> None:
            if done >= 9:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(listing(files), tmp_path, progress=Interrupted())
    assert not (tmp_path / "out").exists()
    Image.fromarray(noise(1, 16, 16, 3)).save(files[4])
    run(listing(files), tmp_path)
    assert np.array_equal(open_mapped(tmp_path / "out").images[4], noise(1, 16, 16, 3))
    assert not (tmp_path / "part").exists()


@pytest.mark.usefixtures("_small_chunks")
def test_other_sources_boxes_and_forms_start_afresh(tmp_path: Path, files: list[Path]) -> None:
    class Heard(Silent):
        def __init__(self) -> None:
            self.went_on = False

        def say(self, message: str) -> None:
            self.went_on = True

    class Interrupted(Silent):
        def advance(self, done: int, facts: str) -> None:
            if done >= 9:
                raise KeyboardInterrupt

    (tmp_path / "list.csv").write_text("a")
    boxes = np.tile([1.0, 1.0, 9.0, 9.0], (20, 1))
    base: dict[str, Any] = {"sources": (tmp_path / "list.csv",), "boxes": boxes}
    changes: list[dict[str, Any]] = [
        {}, {"boxes": boxes + 1}, {"boxes": None}, {"form": Form(16, resize="centre")}, {"sources": ()}
    ]  # fmt: skip
    for number, changed in enumerate(changes):
        with pytest.raises(KeyboardInterrupt):
            run(listing(files, **base), tmp_path / str(number), progress=Interrupted())
        heard = Heard()
        run(listing(files, **{**base, **changed}), tmp_path / str(number), progress=heard)
        assert heard.went_on == (not changed)


def test_a_listing_that_does_not_add_up_is_told(files: list[Path]) -> None:
    with pytest.raises(InputError, match="20 images and 3 labels"):
        ImageList(files, np.zeros(3, np.int64), ("a",), Form(16))
    with pytest.raises(InputError, match="class 'c' has no image"):
        ImageList(files, np.arange(20) % 2, ("a", "b", "c"), Form(16))
    found = listing(files)
    assert expect_per_class(found, 10, Path("place")) is found
    with pytest.raises(InputError, match="place is not whole: class 'a' has 10 images, not 11"):
        expect_per_class(found, 11, Path("place"))


def test_chains_read_across_their_parts_and_let_go_of_them(tmp_path: Path) -> None:
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


def test_npz_images_are_read_a_few_at_a_time(tmp_path: Path) -> None:
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
def test_an_import_ended_in_the_middle_is_completed_by_the_same_command(tmp_path: Path, number: signal.Signals) -> None:
    """The process is ended while images are decoded; the second run keeps what is there and gives the same set."""
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
    assert "going on after" in again.stderr
    entry = data_set(name)
    assert isinstance(entry, Published)
    entry.import_from(tmp_path / "other", None, {"size": "160"}, workers=1, progress=Silent())
    first, second = ([f.read_bytes() for f in sorted((tmp_path / r).glob("sets/f*/*"))] for r in ("root", "other"))
    assert len(first) == 3
    assert first == second
