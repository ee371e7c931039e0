"""Checks of every registered data set, and of the embedded sets' files."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.checks import candidate, failure_of, suite_of
from benchmark.data import DATASETS, ImageSet
from benchmark.data.assets import FOLDER, load_asset
from benchmark.data.contact_sheet import draw_contact_sheet
from benchmark.data.published import data_set
from benchmark.errors import InputError

EMBEDDED = ("glyphs", "emoji")
FINGERPRINTS = {
    "glyphs": "2c2432d55d692553d2dfe937ef95889c34c89cbeb64eff0a9a6e2ee769f05341",
    "emoji": "0c311f34c28e90a49c3b23c95c2e8cd29ccb7f516f2cf42d5b5cba8febf66d80",
    "tiny": "1f10d3f4b534ee3f4b0dd0ee7caa0f4e9d1c925382347f57b4f17795cc2677a9",
}
"""Record keys depend on these: they must never change."""


CHECKS = suite_of("dataset").checks


@pytest.mark.parametrize("name", DATASETS.names())
def test_dataset_passes_every_check(name: str, root: Path, sources: Path) -> None:
    name = name.replace("PATH", str(sources / "photos"))
    with candidate(name, "dataset", root) as dataset:
        failures = {check.name: failure_of(check, dataset) for check in CHECKS.values()}
    data = data_set(name)(root)
    if data.import_info is not None:  # a small edition, too small for any protocol
        del failures["supports_a_protocol"]
    assert not any(failures.values()), failures
    assert data.fingerprint == FINGERPRINTS.get(name, data.fingerprint)
    assert np.bincount(data.labels, minlength=len(data.classes)).min() >= (20 if data.import_info is None else 1)


def odd(tiny: ImageSet, **changes: Any) -> Any:
    """A loader of a data set like ``tiny`` but for these changes."""

    def loader(root: Path) -> ImageSet:
        """Colour patterns, changed."""
        return dataclasses.replace(tiny, name="odd", **{k: v() if callable(v) else v for k, v in changes.items()})

    loader.__module__ = "benchmark.data.assets"  # a small module that imports NumPy at its top
    return loader


def undocumented(root: Path) -> None:
    pass


def speckled(tiny: ImageSet) -> Any:
    rng = np.random.default_rng()
    return (tiny.images ^ rng.integers(0, 2, tiny.images.shape, np.uint8)).astype(np.uint8)


@pytest.mark.parametrize(
    ("changes", "check", "reason"),
    [
        (None, "is_documented", "no docstring"),
        (lambda t: {"name_": "other"}, "is_a_valid_image_set", "the name of its ImageSet is 'tiny'"),
        (lambda t: {"classes": (*t.classes, "empty")}, "is_a_valid_image_set", "class 'empty' has no image"),
        (
            lambda t: {"classes": ("pattern 1", *t.classes[1:])},
            "is_a_valid_image_set",
            "two of its classes have the same name",
        ),
        (lambda t: {"images": t.images[:, :8]}, "is_a_valid_image_set", "not square"),
        (lambda t: {"images": t.images[..., :2]}, "is_a_valid_image_set", "2 channels"),
        (lambda t: {"splits": {"train": t.splits["train"]}}, "splits_partition_classes", "its splits are train, not"),
        (lambda t: {"splits": {**t.splits, "val": ()}}, "splits_partition_classes", "its split val has no class"),
        (
            lambda t: {"splits": {**t.splits, "val": (20,)}},
            "splits_partition_classes",
            "not every class is in exactly one split",
        ),
        (lambda t: {"groups": np.arange(720) // 48}, "groups_are_consistent", "group 0 has images of several classes"),
        (
            lambda t: {"images": t.images[np.arange(720) // 4 * 4]},
            "groups_are_consistent",
            "groups 0 and 1 share an image",
        ),
        (lambda t: {"images": lambda: speckled(t)}, "loads_identically", "loaded twice, it differs"),
        (lambda t: {"background": lambda: int(np.random.randint(9))}, "loads_identically", "NumPy's global generator"),
        (lambda t: {"groups": t.labels}, "supports_a_protocol", "no protocol accepts it"),
    ],
)
def test_dataset_that_breaks_a_check_fails_it(
    tiny: ImageSet, tmp_path: Path, changes: Any, check: str, reason: str
) -> None:
    changed = changes(tiny) if changes else {}
    entry = undocumented if changes is None else (lambda root: tiny) if "name_" in changed else odd(tiny, **changed)
    with DATASETS.override("odd", entry), candidate("odd", "dataset", tmp_path) as dataset:
        failure = failure_of(CHECKS[check], dataset)
    assert re.search(reason, str(failure)), failure


def test_plain_dataset_passes_every_check(tiny: ImageSet, tmp_path: Path) -> None:
    with DATASETS.override("odd", odd(tiny)), candidate("odd", "dataset", tmp_path) as dataset:
        failed = [check.name for check in CHECKS.values() if failure_of(check, dataset)]
    assert failed == ["imports_nothing_heavy"], "this module imports NumPy"


def test_glyphs_splits_separate_scripts(tmp_path: Path) -> None:
    data = DATASETS.get("glyphs").entry(tmp_path)
    index = json.loads((FOLDER / "glyphs.json").read_text())
    scripts = {split: {index["classes"][c]["superclass"] for c in classes} for split, classes in data.splits.items()}
    assert not scripts["train"] & scripts["test"]
    assert not scripts["train"] & scripts["val"]
    assert not scripts["val"] & scripts["test"]
    assert len(set().union(*scripts.values())) >= 6
    assert len(data.classes) >= 160
    assert np.bincount(data.labels).min() >= 40


def test_emoji_has_enough_images_and_groups(tmp_path: Path) -> None:
    data = DATASETS.get("emoji").entry(tmp_path)
    assert len(data.images) >= 7_500
    assert len(data.classes) >= 70
    assert np.bincount(data.labels).min() >= 30
    assert len(np.unique(data.groups)) < len(data.images) / 3


@pytest.mark.parametrize("name", EMBEDDED)
def test_assets_are_small_and_name_their_sources(name: str) -> None:
    assert (FOLDER / f"{name}.webp").stat().st_size <= 8 * 2**20
    sources = (FOLDER / "SOURCES.md").read_text()
    index = json.loads((FOLDER / f"{name}.json").read_text())
    missing = [source for source in index["sources"] if source not in sources]
    assert not missing


@pytest.mark.parametrize("filename", ["glyphs.webp", "glyphs.json", "SHA256SUMS"])
def test_damaged_asset_is_named(tmp_path: Path, filename: str) -> None:
    for path in FOLDER.glob("*"):
        if path.is_file():
            shutil.copy(path, tmp_path)
    assert load_asset("glyphs", flip_invariant=False, folder=tmp_path).name == "glyphs"
    content = bytearray((tmp_path / filename).read_bytes())
    content[len(content) * 9 // 10] ^= 1
    (tmp_path / filename).write_bytes(content)
    with pytest.raises(InputError, match="restore the file"):
        load_asset("glyphs", flip_invariant=False, folder=tmp_path)
    (tmp_path / filename).unlink()
    with pytest.raises(InputError, match="cannot be read"):
        load_asset("glyphs", flip_invariant=False, folder=tmp_path)


def test_contact_sheet_shows_every_class(tmp_path: Path) -> None:
    from PIL import Image

    data = DATASETS.get("tiny").entry(tmp_path)
    draw_contact_sheet(data, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape[0] == 18 * len(data.classes)
    assert np.array_equal(pixels[:16, 230:246], data.images[data.indices_of([data.splits["train"][0]])[0]])
    with pytest.raises(InputError, match="cannot write"):
        draw_contact_sheet(data, tmp_path / "missing" / "sheet.png")


def test_tiny_gives_every_caller_its_own_images() -> None:
    """It is drawn once: who writes into its images must not change anybody else's."""
    first, second = (DATASETS.get("tiny").entry(Path()) for _ in range(2))
    first.images[:] = 0
    assert second.images.any()
    assert DATASETS.get("tiny").entry(Path()).images.any()
