"""Folders of users: what is read, what is passed over, and how classes and images are split."""

from __future__ import annotations

import contextlib
import json
import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmark.data.image_folder import class_split, read_image_folder
from benchmark.errors import InputError

from .layouts import picture


def write(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(number, 12, 12).save(folder / name)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write(tmp_path / "photos", *(f"c{c}/{i}.png" for c in range(5) for i in range(2)))


def test_hidden_and_system_files_are_passed_over(photos: Path) -> None:
    (photos / "c0/._0.png").write_bytes(b"\0\5\x16\7")
    for name in ("__MACOSX/c0", ".git", "c1/@eaDir", "System Volume Information"):
        (photos / name).mkdir(parents=True)
    (photos / "__MACOSX/c0/._0.png").write_bytes(b"\0\5\x16\7")
    (photos / "c2/Thumbs.db").write_bytes(b"x")
    folder = read_image_folder(photos)
    assert (len(folder.files), len(folder.classes)) == (10, 5)
    assert folder.describe_left_out() == "passed over: hidden or system files (6, as .git)"


def test_everything_left_out_is_counted_and_named_once(photos: Path) -> None:
    write(photos, "c0/more/a.jpg", "c0/more/still more/b.jpg", "loose.png")
    (photos / "c3/photo.heic").write_bytes(b"x")
    (photos / "c3/noending").write_bytes(b"x")
    assert read_image_folder(photos).describe_left_out() == (
        "passed over: files outside of class folders (1, as loose.png); "
        "files in folders within class folders (2, as c0/more/a.jpg); "
        "files without the ending of an image that can be read (2, as c3/noending)"
    )


def test_links_that_lead_nowhere_are_named_at_once(photos: Path) -> None:
    for number in range(12):
        (photos / f"c1/a{number:02d}.png").symlink_to("/nonexistent/7.png")
    (photos / "c2/self.png").symlink_to("self.png")
    (photos / "c9").symlink_to("c9")  # no class folder: a link to itself
    with pytest.raises(InputError, match=r"13 images of .*photos cannot be read: c1/a00\.png \(a link .* and 3 more"):
        read_image_folder(photos)
    for path in photos.glob("c1/a*.png"):
        path.unlink()
    with pytest.raises(InputError, match=r"1 images of .* cannot be read: c2/self\.png"):
        read_image_folder(photos)
    (photos / "c2/self.png").unlink()
    assert len(read_image_folder(photos).classes) == 5


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs on this system")
def test_fifos_are_named_and_not_opened(photos: Path) -> None:
    os.mkfifo(photos / "c1/a.png")
    with pytest.raises(InputError, match=r"c1/a\.png \(no plain file\)"):
        read_image_folder(photos)
    (photos / "c1/a.png").unlink()
    os.mkfifo(photos / "splits.json")
    with pytest.raises(InputError, match=r"splits\.json cannot be read \(it is no plain file\)"):
        class_split(read_image_folder(photos))


def test_classes_without_images_are_named(photos: Path) -> None:
    write(photos, "c7/more/a.png")
    (photos / "c8").mkdir()
    with pytest.raises(
        InputError, match=r"class folder 'c7' holds no image \(2 folders hold none\); passed over: .*c7/more/a\.png"
    ):
        read_image_folder(photos)
    with pytest.raises(InputError, match="nowhere cannot be read"):
        read_image_folder(photos / "nowhere")


def test_a_drawn_split_follows_from_the_classes_alone(photos: Path, tmp_path: Path) -> None:
    split = class_split(read_image_folder(photos))
    other = write(tmp_path / "elsewhere" / "another name", *(f"c{c}/{i}.jpg" for c in range(5) for i in range(3)))
    assert class_split(read_image_folder(other)) == split
    assert [len(split.classes[part]) for part in ("train", "val", "test")] == [3, 1, 1]


def test_parts_with_the_same_classes_split_the_images(tmp_path: Path) -> None:
    names = [f"{part}/c{c}/{part}{i}.png" for part in ("Train", "valid", "test") for c in range(4) for i in range(2)]
    folder = read_image_folder(write(tmp_path / "x", *names))
    assert folder.classes == ("c0", "c1", "c2", "c3")
    assert folder.held_out_part == "test"
    assert [file.part for file in folder.files if file.class_name == "c1"] == ["train"] * 2 + ["val"] * 2 + ["test"] * 2
    assert class_split(folder).name == "drawn"
    two = read_image_folder(write(tmp_path / "y", *(name for name in names if not name.startswith("test"))))
    assert two.held_out_part == "val"


def test_parts_without_common_classes_split_the_classes(tmp_path: Path) -> None:
    names = ["train/a/0.png", "train/b/0.png", "val/c/0.png", "test/d/0.png", "test/e/0.png"]
    folder = read_image_folder(write(tmp_path / "x", *names))
    assert folder.held_out_part == ""
    assert class_split(folder).classes == {"train": ("a", "b"), "val": ("c",), "test": ("d", "e")}
    write(tmp_path / "x", "test/b/0.png")
    with pytest.raises(InputError, match="none shares a class with another; but class 'b' is in train and in test"):
        class_split(read_image_folder(tmp_path / "x"))


def test_classes_called_train_and_test_are_classes(tmp_path: Path) -> None:
    folder = read_image_folder(write(tmp_path / "x", "train/0.png", "test/0.png"))
    assert (folder.classes, folder.parts) == (("test", "train"), ())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_split_files_are_read_as_editors_save_them(tmp_path: Path, encoding: str, forms: tuple[str, str]) -> None:
    names = [unicodedata.normalize(forms[0], name) for name in ("ñandú", "über", "plain")]
    write(tmp_path / "x", *(f"{name}/0.png" for name in names))
    ours = [unicodedata.normalize(forms[1], name) for name in names]
    values = {"train": ours[:1], "val": ours[1:2], "test": ours[2:]}
    (tmp_path / "x/splits.json").write_text(json.dumps(values, ensure_ascii=False), encoding=encoding)
    split = class_split(read_image_folder(tmp_path / "x"))
    assert split.classes == {"train": ("ñandú",), "val": ("über",), "test": ("plain",)}
    assert split.indices(read_image_folder(tmp_path / "x").classes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"train": ["c0"], "val": ["c1"], "test": ["c0"]}', "class 'c0' is in train and in test"),
        ('{"train": ["c0", "c0"], "val": ["c1"], "test": []}', "class 'c0' is twice in train"),
        ('{"train": ["c0", "c8", "c9"], "val": [], "test": []}', r"class 'c8', of which there is no folder \(2 such"),
        ('{"train": "c0", "val": [], "test": []}', "train is no list of names"),
        ('{"train": [["c0"]], "val": [], "test": []}', "train is no list of names"),
        ('{"train": ["c0"], "val": []}', "test is no list of names"),
        ('{"train": ["c0"], "train": ["c1"], "val": [], "test": []}', "key 'train' stands twice"),
        ("[1]", "it is no object"),
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_wrong_split_files_are_one_line(photos: Path, text: str, message: str) -> None:
    (photos / "splits.json").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        class_split(read_image_folder(photos))
    assert "splits.json" in str(caught.value)
    assert "\n" not in str(caught.value)


_JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["c0", "c1", "c2"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["train", "val", "test", "x"]), inner),
    max_leaves=12,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_any_split_file_is_read_or_refused(photos: Path, content: bytes) -> None:
    folder = read_image_folder(photos)
    (photos / "splits.json").write_bytes(content)
    with contextlib.suppress(InputError):
        split = class_split(folder)
        assert set(split.classes) == {"train", "val", "test"}
        assert len(split.indices(folder.classes)) == 3
