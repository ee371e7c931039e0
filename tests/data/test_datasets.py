"""Contract of every registered data set, and of the embedded ones' files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmark.data import DATASETS
from benchmark.data.assets import FOLDER, load_asset
from benchmark.data.contact_sheet import draw_contact_sheet
from benchmark.errors import InputError

EMBEDDED = ("glyphs", "emoji")
FINGERPRINTS = {
    "glyphs": "2c2432d55d692553d2dfe937ef95889c34c89cbeb64eff0a9a6e2ee769f05341",
    "emoji": "0c311f34c28e90a49c3b23c95c2e8cd29ccb7f516f2cf42d5b5cba8febf66d80",
    "tiny": "1f10d3f4b534ee3f4b0dd0ee7caa0f4e9d1c925382347f57b4f17795cc2677a9",
}
"""Records are found by them: whatever the suite comes to know of a set, these stay."""


@pytest.mark.parametrize("name", DATASETS.names())
def test_contract(name: str, root: Path, sources: Path) -> None:
    name = name.replace("PATH", str(sources / "photos"))
    data = DATASETS.get(name).entry(root)
    assert data.name == name.replace(f"{sources}/", "")
    assert data.label.split("+")[0] == data.name
    assert data.fingerprint == DATASETS.get(name).entry(root).fingerprint
    assert set(data.splits) == {"train", "val", "test"}
    assert sorted(c for classes in data.splits.values() for c in classes) == list(range(len(data.classes)))
    assert len(set(data.classes)) == len(data.classes)
    assert json.loads(json.dumps(data.describe())) == data.describe()
    assert np.bincount(data.labels, minlength=len(data.classes)).min() >= (20 if data.origin is None else 1)
    assert data.fingerprint == FINGERPRINTS.get(name, data.fingerprint)
    for group in np.unique(data.groups):
        assert len(np.unique(data.labels[data.groups == group])) == 1


@pytest.mark.parametrize("name", EMBEDDED)
def test_no_image_stands_in_two_groups(name: str, tmp_path: Path) -> None:
    data = DATASETS.get(name).entry(tmp_path)
    seen: dict[bytes, int] = {}
    for image, group in zip(data.images, data.groups, strict=True):
        assert seen.setdefault(image.tobytes(), int(group)) == group


def test_glyphs_are_split_by_script(tmp_path: Path) -> None:
    data = DATASETS.get("glyphs").entry(tmp_path)
    index = json.loads((FOLDER / "glyphs.json").read_text())
    scripts = {split: {index["classes"][c]["superclass"] for c in classes} for split, classes in data.splits.items()}
    assert not scripts["train"] & scripts["test"]
    assert not scripts["train"] & scripts["val"]
    assert not scripts["val"] & scripts["test"]
    assert len(set().union(*scripts.values())) >= 6
    assert len(data.classes) >= 160
    assert np.bincount(data.labels).min() >= 40


def test_emoji_are_many(tmp_path: Path) -> None:
    data = DATASETS.get("emoji").entry(tmp_path)
    assert len(data.images) >= 7_500
    assert len(data.classes) >= 70
    assert np.bincount(data.labels).min() >= 30
    assert len(np.unique(data.groups)) < len(data.images) / 3


@pytest.mark.parametrize("name", EMBEDDED)
def test_assets_are_small_and_their_sources_named(name: str) -> None:
    assert (FOLDER / f"{name}.webp").stat().st_size <= 8 * 2**20
    sources = (FOLDER / "SOURCES.md").read_text()
    index = json.loads((FOLDER / f"{name}.json").read_text())
    missing = [source for source in index["sources"] if source not in sources]
    assert not missing


@pytest.mark.parametrize("filename", ["glyphs.webp", "glyphs.json", "SHA256SUMS"])
def test_a_damaged_asset_is_named(tmp_path: Path, filename: str) -> None:
    for path in FOLDER.glob("*"):
        if path.is_file():
            shutil.copy(path, tmp_path)
    assert load_asset("glyphs", mirrors=False, folder=tmp_path).name == "glyphs"
    content = bytearray((tmp_path / filename).read_bytes())
    content[len(content) * 9 // 10] ^= 1
    (tmp_path / filename).write_bytes(content)
    with pytest.raises(InputError, match="restore the file"):
        load_asset("glyphs", mirrors=False, folder=tmp_path)
    (tmp_path / filename).unlink()
    with pytest.raises(InputError, match="cannot be read"):
        load_asset("glyphs", mirrors=False, folder=tmp_path)


def test_contact_sheet_shows_every_class(tmp_path: Path) -> None:
    from PIL import Image

    data = DATASETS.get("tiny").entry(tmp_path)
    draw_contact_sheet(data, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape[0] == 18 * len(data.classes)
    assert np.array_equal(pixels[:16, 230:246], data.images[data.where([data.splits["train"][0]])[0]])
    with pytest.raises(InputError, match="cannot write"):
        draw_contact_sheet(data, tmp_path / "missing" / "sheet.png")
