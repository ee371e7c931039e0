"""Published sets are read from the layouts of their publishers."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmark.data import class_splits
from benchmark.data.class_splits import load_class_split
from benchmark.data.task import split_by_group
from benchmark.data.unpickling import load_pickle
from benchmark.errors import InputError
from benchmark.hashing import content_key

from . import layouts
from .imports import class_names, imported, published

CIFAR_ORDER = (
    0, 1, 3, 6, 9, 10, 11, 12, 13, 16, 17, 18, 20, 22, 23, 24, 25, 28, 29, 30, 31, 33, 35, 36, 37, 38, 39, 41, 43,
    44, 45, 49, 50, 51, 52, 53, 54, 56, 57, 59, 61, 63, 64, 65, 66, 67, 68, 72, 74, 75, 76, 78, 79, 80, 81, 82,
    85, 88, 90, 91, 92, 93, 96, 97, 4, 7, 14, 15, 19, 26, 27, 32, 40, 47, 48, 55, 71, 73, 87, 89, 2, 5, 8, 21, 34,
    42, 46, 58, 60, 62, 69, 70, 77, 83, 84, 86, 94, 95, 98, 99,
)  # fmt: skip
"""Class order of the distillation protocol, as the authors of GKD print it."""

SUPERCLASS_OF = [
    4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1,
    10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2,
    12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15,
    6, 0, 17, 8, 14, 13,
]  # fmt: skip
"""Superclass of each fine class of CIFAR-100."""

FC100_VAL = ["large_carnivores", "large_omnivores_and_herbivores", "non-insect_invertebrates", "small_mammals"]
FC100_TEST = ["aquatic_mammals", "insects", "medium_mammals", "people"]


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    with layouts.small():
        yield


@pytest.mark.parametrize(
    ("name", "sizes", "first"),
    [
        ("cifar-fs", (64, 16, 20), "6a186bd06eb953fc"),
        ("fc100", (60, 20, 20), "82e47d3a0e3e43ed"),
        ("miniimagenet", (64, 16, 20), "f7eb05c00a3d4c29"),
        ("cub-feat", (100, 50, 50), "354b7d2cca936af1"),
        ("cub-metadataset", (140, 30, 30), "9d2f852fba2b36d0"),
        ("omniglot-vinyals", (1028, 172, 423), "c2152a515822906e"),
    ],
)
def test_shipped_class_lists_are_the_published_ones(name: str, sizes: tuple[int, ...], first: str) -> None:
    parts = load_class_split(name).classes
    assert tuple(map(len, parts.values())) == sizes
    assert len({c for part in parts.values() for c in part}) == sum(sizes)
    assert content_key({part: sorted(names) for part, names in parts.items()}).startswith(first)


def test_fc100_split_separates_superclasses() -> None:
    """Compared with the superclass of each fine class; CIFAR-100 numbers both in order of their names."""
    split = json.loads((Path(class_splits.__file__).parent / "fc100.json").read_text())
    fine = {name: SUPERCLASS_OF[c] for c, name in enumerate(layouts.CIFAR_CLASSES)}
    superclasses = sorted(name for part in split["superclasses"].values() for name in part)
    assert [len(part) for part in split["superclasses"].values()] == [12, 4, 4]
    for part, names in split["superclasses"].items():
        assert sorted(split[part]) == [name for name, c in fine.items() if superclasses[c] in names]
    assert split["superclasses"]["val"] == FC100_VAL
    assert split["superclasses"]["test"] == FC100_TEST


def test_shipped_class_lists_have_the_same_classes() -> None:
    def union(name: str) -> set[str]:
        return {c for part in load_class_split(name).classes.values() for c in part}

    assert union("fc100") == union("cifar-fs")
    assert union("cub-feat") == union("cub-metadataset")
    assert sorted(int(c[:3]) for c in union("cub-feat")) == list(range(1, 201))
    with pytest.raises(InputError, match=r"class '.*' of split cifar-fs is missing \(100 are\)"):
        load_class_split("cifar-fs").indices(["apples"])


def test_cifar100_batches_are_read(root: Path, sources: Path, tmp_path: Path) -> None:
    expected = layouts.write_cifar100(tmp_path / "copy")
    data = published("cifar100")(root)
    assert np.array_equal(data.images, np.concatenate([expected["train"], expected["test"]]))
    labels = np.random.default_rng(9).permutation(np.repeat(np.arange(100), 4))
    assert data.labels[:400].tolist() == labels.tolist()
    assert data.official_test is not None
    assert data.official_test.tolist() == [False] * 400 + [True] * 200
    assert data.classes == tuple(layouts.CIFAR_CLASSES)
    assert data.orders["distillation"] == CIFAR_ORDER
    assert data.orders["incremental"][:10] == (68, 56, 78, 8, 23, 84, 90, 65, 74, 76)
    sides = split_by_group(data, test=0.9, val=0.25)
    assert sides["test"].tolist() == list(range(400, 600))
    assert len(sides["val"]) == 100


def test_sets_of_one_import_differ_only_in_their_split(root: Path) -> None:
    cifar, few, fc = (published(name)(root) for name in ("cifar100", "cifar-fs", "fc100"))
    assert [data.name for data in (cifar, few, fc)] == ["cifar100", "cifar-fs", "fc100"]
    assert np.array_equal(cifar.images, fc.images)
    assert few.splits == cifar.splits
    assert few.describe()["split"] == cifar.describe()["split"] == "cifar-fs"
    assert fc.describe()["split"] == "fc100"
    assert fc.fingerprint != few.fingerprint
    assert fc.describe()["split_hash"] != few.describe()["split_hash"]
    assert set(class_names(fc, "test")) > {"baby", "beaver", "bee", "fox"}
    assert not set(class_names(fc, "train")) & {"baby", "beaver", "bee", "fox", "lion", "camel", "crab", "hamster"}
    assert published("fc100").state(root) == "imported as cifar100"


@pytest.mark.parametrize(("name", "prefix"), [("cifar-fs", "CIFAR_FS"), ("fc100", "FC100")])
@pytest.mark.parametrize("write", [layouts.python2_pickle, pickle.dumps])
def test_cifar100_pickles_equal_the_batches(tmp_path: Path, root: Path, name: str, prefix: str, write: Any) -> None:
    """Pickles give the images and classes of the batches, in the order of the pickles."""
    layouts.write_cifar_parts(tmp_path / "few", prefix, load_class_split(name).classes, write)
    data, batches = imported(name, tmp_path / "root", tmp_path / "few"), published(name)(root)
    assert data.classes == batches.classes
    assert data.splits == batches.splits
    assert data.orders == batches.orders
    assert data.official_test is None
    assert data.describe()["source_form"] == "pickles by part"
    for c in range(100):
        pixels, expected = (sorted(x.tobytes() for x in s.images[s.indices_of([c])]) for s in (data, batches))
        assert pixels == expected
    assert published(name).state(tmp_path / "root") == "imported"
    with pytest.raises(InputError, match="holds none of meta"):
        imported("cifar100", tmp_path / "root", tmp_path / "few")


def test_cifar100_pickles_of_another_split_are_refused(tmp_path: Path) -> None:
    parts = load_class_split("cifar-fs").classes
    layouts.write_cifar_parts(tmp_path / "few", "FC100", parts, pickle.dumps)
    with pytest.raises(InputError, match=r"FC100_train.pickle is not whole or of another split: not 6 images of each"):
        imported("fc100", tmp_path, tmp_path / "few")
    layouts.write_cifar_parts(tmp_path / "few", "CIFAR_FS", parts, pickle.dumps)
    (tmp_path / "few/CIFAR_FS_val.pickle").write_bytes(pickle.dumps({"data": np.zeros((2, 32, 32), np.uint8)}))
    with pytest.raises(InputError, match=r"CIFAR_FS_val.pickle is not a part of CIFAR_FS"):
        imported("cifar-fs", tmp_path, tmp_path / "few")
    (tmp_path / "few/CIFAR_FS_val.pickle").unlink()
    with pytest.raises(InputError, match=r"CIFAR_FS_val.pickle cannot be read"):
        imported("cifar-fs", tmp_path, tmp_path / "few")


def test_cub_files_are_read(root: Path, sources: Path) -> None:
    data = published("cub")(root)
    assert data.images.shape == (600, 84, 84, 3)
    assert data.classes == tuple(layouts.CUB_CLASSES)
    assert data.labels.tolist() == np.repeat(np.arange(200), 3).tolist()
    assert data.official_test is not None
    assert data.official_test.tolist() == [False, False, True] * 200
    assert data.orders["distillation"] == tuple(range(200))
    assert data.orders["incremental"] == tuple(np.random.RandomState(1993).permutation(200).tolist())
    with Image.open(next((sources / "CUB_200_2011/images" / data.classes[7]).glob("*_0000_*"))) as photo:
        side = photo.resize((128, 96), Image.Resampling.LANCZOS).crop((22, 6, 106, 90))
    assert np.array_equal(data.images[21], np.asarray(side))
    sides = split_by_group(data, test=0.4, val=0)
    assert (len(sides["train"]), len(sides["val"]), len(sides["test"])) == (400, 0, 200)


def test_cub_crop_keeps_the_bounding_box(root: Path) -> None:
    """The boxes hold a red square and nothing else."""
    red = np.array([250, 0, 0])
    whole, cropped = published("cub")(root), published("cub-feat")(root)
    assert np.abs(cropped.images.astype(int) - red).max() < 40
    assert np.abs(whole.images[:, :4].astype(int) - red).max() > 100
    assert cropped.describe()["import"] == {"size": 84, "resize": "centre", "crop": True}
    assert whole.describe()["import"]["crop"] is False


def test_cub_splits_are_the_published_ones(root: Path) -> None:
    closer, frn, feat, meta = (published(f"cub-{name}")(root) for name in ("closerlook", "frn", "feat", "metadataset"))
    for c in range(200):
        assert (c in closer.splits["train"]) == (c % 2 == 0)
        assert (c in closer.splits["val"]) == (c % 4 == 1)
        number = c + 1
        assert (c in frn.splits["train"]) == (number % 2 == 0)
        assert (c in frn.splits["test"]) == (number % 4 == 3)
    assert sorted(frn.splits["val"] + frn.splits["test"]) == list(closer.splits["train"])
    for data, name in ((feat, "cub-feat"), (meta, "cub-metadataset")):
        for part, expected in load_class_split(name).classes.items():
            assert sorted(class_names(data, part)) == sorted(expected)
    assert len({data.describe()["split_hash"] for data in (closer, frn, feat, meta)}) == 4
    assert published("cub")(root).describe()["split"] == "cub-closerlook"


@pytest.mark.parametrize("folders", [False, True])
def test_cub_feat_lists_are_read(tmp_path: Path, sources: Path, folders: bool) -> None:
    """The lists have spaces in their first line and 30 columns. The photos are cropped already."""
    place = layouts.write_cub_feat(tmp_path / "cub", sources / "CUB_200_2011", folders=folders)
    data = imported("cub-feat", tmp_path / "root", place, size="16", resize="squash")
    for part, expected in load_class_split("cub-feat").classes.items():
        assert sorted(class_names(data, part)) == sorted(expected)
    assert data.classes == tuple(layouts.CUB_CLASSES)
    assert np.bincount(data.labels).tolist() == [3] * 200
    assert data.describe()["source_form"] == "cropped images, lists of FEAT"
    for c in (0, 77, 199):  # in each the crop is one grey, by its class
        assert np.unique(data.images[data.indices_of([c])]).tolist() == [c]


def test_cub_feat_refuses_other_lists(tmp_path: Path, sources: Path) -> None:
    place = layouts.write_cub_feat(tmp_path / "cub", sources / "CUB_200_2011", folders=False)
    rows = (place / "split/val.csv").read_text().splitlines()
    for changed, message in (
        (rows[1:], "is not a list of filename, label"),
        ([*rows, "x.jpg"], "is not a list of filename, label"),
        ([*rows, "../x.jpg," + rows[1].split(",")[1]], "is not a list of filename, label"),
        ([*rows, "x.jpg,001.Nothing"], "does not have the 50 classes of cub-feat"),
        ([rows[0], *rows[4:]], "does not have the 50 classes of cub-feat"),
        (rows[:-1], "name 599 images, not 600"),
    ):
        (place / "split/val.csv").write_text("\n".join(changed) + "\n")
        with pytest.raises(InputError, match=message):
            imported("cub-feat", tmp_path / "root", place)
    with pytest.raises(InputError, match=r"holds none of images\.txt"):
        imported("cub", tmp_path / "root", place)


def test_omniglot_rotations_are_further_classes(tmp_path: Path, root: Path, sources: Path) -> None:
    data = imported("omniglot", tmp_path, sources / "omniglot", rotations="true")
    plain = published("omniglot")(root)
    assert data.label == "omniglot+rotations=true"
    assert [len(data.splits[part]) for part in ("train", "val", "test")] == [4 * 1028, 4 * 172, 4 * 423]
    assert data.describe()["split"] == "omniglot-vinyals-rotations"
    split_of = {c: part for part, classes in data.splits.items() for c in classes}
    for c in (0, 700, 1622):
        drawing = plain.images[plain.indices_of([c])[0], :, :, 0]
        for turn in range(4):
            name = plain.classes[c] + (f"/turned {90 * turn}" if turn else "")
            rotated = data.classes.index(name)
            (turned,) = data.images[data.indices_of([rotated])]
            assert split_of[rotated] == split_of[c]
            for y, x in ((0, 0), (5, 13), (20, 3), (27, 14)):
                at = {0: (y, x), 1: (x, 27 - y), 2: (27 - y, 27 - x), 3: (27 - x, y)}[turn]
                assert turned[y, x, 0] == drawing[at]


def test_omniglot_folders_are_read(root: Path) -> None:
    data = published("omniglot")(root)
    assert data.images.shape == (1623, 28, 28, 1)
    assert (data.background, data.flip_invariant) == (255, False)
    assert sum(len(data.splits[part]) for part in data.splits) == 1623
    assert data.classes[data.labels[0]] == data.classes[0]
    for c in (0, 700, 1622):
        dark = int((data.images[data.indices_of([c])[0], :, 13, 0] < 128).sum())
        order = sorted(c for part in load_class_split("omniglot-vinyals").classes.values() for c in part)
        number = order.index(data.classes[c])
        assert abs(dark - (10 + number % 50) * 28 / 105) <= 1


@pytest.mark.parametrize(
    ("write", "form"),
    [
        (layouts.write_mini_csv, "csv"),
        (layouts.write_mini_imagenet, "csv"),
        (layouts.write_mini_cache, "cache"),
        (layouts.write_mini_category, "category split"),
    ],
)
def test_miniimagenet_forms_hold_the_same_images(tmp_path: Path, root: Path, write: Any, form: str) -> None:
    write(tmp_path / "mini")
    data = imported("miniimagenet", tmp_path / "root", tmp_path / "mini")
    expected = layouts.mini_images()
    assert len(data.images) == 200
    for c, name in enumerate(data.classes):
        assert all(np.array_equal(data.images[i], x) for i, x in zip(data.indices_of([c]), expected[name], strict=True))
    for part, expected in layouts.MINI_PARTS.items():
        assert class_names(data, part) == list(expected)
    assert data.describe()["source_form"] == form


def test_miniimagenet_accepts_validation_in_file_names(tmp_path: Path) -> None:
    layouts.write_mini_cache(tmp_path / "mini")
    (tmp_path / "mini/mini-imagenet-cache-val.pkl").rename(tmp_path / "mini/mini-imagenet-cache-validation.pkl")
    assert len(imported("miniimagenet", tmp_path / "root", tmp_path).images) == 200


@pytest.mark.parametrize("form", ["npz", "png"])
def test_tieredimagenet_forms_hold_the_same_images(tmp_path: Path, form: str) -> None:
    """Both give the same colours, although the arrays store blue first."""
    layouts.write_tiered(tmp_path / "tiered", form)
    data = imported("tieredimagenet", tmp_path / "root", tmp_path / "tiered")
    assert np.array_equal(data.images, np.concatenate(list(layouts.tiered_images().values())))
    assert [len(data.splits[part]) for part in ("train", "val", "test")] == [5, 3, 4]
    assert data.labels.tolist() == [*list(range(5)) * 3, *list(range(5, 8)) * 3, *list(range(8, 12)) * 3]
    assert data.classes[6] == "val 001 val kind, crane"


def harmed(tmp_path: Path, source: Path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "source"))


@pytest.mark.parametrize(
    ("name", "source", "harm", "message"),
    [
        ("cifar100", "cifar-100-python", "test", r"pickle .*test is damaged"),
        ("cifar100", "cifar-100-python", "meta", r"holds none of meta; --from names the folder cifar-100-python"),
        ("cub", "CUB_200_2011", "bounding_boxes.txt", r"bounding_boxes\.txt cannot be read"),
        ("cub", "CUB_200_2011", "images.txt", "holds none of images.txt"),
        ("miniimagenet", "miniimagenet", "val.csv", r"val\.csv is missing"),
        ("tieredimagenet", "tiered-imagenet", "val_images.npz", "holds neither val_images_png.pkl nor val_images.npz"),
        ("tieredimagenet", "tiered-imagenet", "test_labels.pkl", r"test_labels\.pkl cannot be read"),
    ],
)
def test_missing_file_is_named(tmp_path: Path, sources: Path, name: str, source: str, harm: str, message: str) -> None:
    place = harmed(tmp_path, sources / source)
    if name == "cifar100" and harm == "test":
        (place / harm).write_bytes((place / harm).read_bytes()[:-100])
    else:
        (place / harm).unlink()
    with pytest.raises(InputError, match=message) as caught:
        imported(name, tmp_path / "root", place)
    assert "\n" not in str(caught.value)
    assert published(name).find_import(tmp_path / "root") is None


def test_omniglot_needs_both_parts(tmp_path: Path) -> None:
    (tmp_path / "images_background").mkdir()
    with pytest.raises(InputError, match="holds no folder images_evaluation; unpack images_evaluation"):
        imported("omniglot", tmp_path / "root", tmp_path)


def test_incomplete_set_is_refused(tmp_path: Path, sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark.data.sets import cifar100, cub, omniglot, tieredimagenet

    monkeypatch.setattr(cifar100, "PER_CLASS", {"train": 4, "test": 3})
    with pytest.raises(InputError, match="test is not whole: not 3 images of each of 100 classes"):
        imported("cifar100", tmp_path, sources / "cifar-100-python")
    monkeypatch.setattr(cub, "IMAGES", 11_788)
    with pytest.raises(InputError, match="200 classes, 600 images, 400 for training, not 200, 11788 and 400"):
        imported("cub", tmp_path, sources / "CUB_200_2011")
    monkeypatch.setattr(omniglot, "PER_CLASS", 20)
    with pytest.raises(
        InputError, match=r"is not whole: class 'Alphabet_of_the_Magi/character01' has 1 images, not 20"
    ):
        imported("omniglot", tmp_path, sources / "omniglot")
    monkeypatch.setattr(tieredimagenet, "CLASSES", {"train": 351, "val": 97, "test": 160})
    with pytest.raises(InputError, match="has 15 images of 5 classes, not 15 of 351"):
        imported("tieredimagenet", tmp_path, sources / "tiered-imagenet")
    place = harmed(tmp_path, sources / "miniimagenet")
    rows = (place / "train.csv").read_text().splitlines()
    (place / "train.csv").write_text("\n".join(rows[:-1]) + "\n")
    with pytest.raises(InputError, match=r"not whole: class 'n13133613' has 1 images, not 2"):
        imported("miniimagenet", tmp_path, place)
    for row, message in (
        ("x.png,n00000001", "has images of 'n00000001', which is not in miniImageNet's train split"),
        ("../x.png,n01532829", "not a plain name"),
    ):
        (place / "train.csv").write_text("\n".join([*rows, row]) + "\n")
        with pytest.raises(InputError, match=message):
            imported("miniimagenet", tmp_path, place)
    with pytest.raises(InputError, match="does not exist; --from names a folder with"):
        imported("miniimagenet", tmp_path, tmp_path / "nowhere")
    assert not list((tmp_path / "sets").glob("[!.]*"))


def test_cifar100_pixels_of_another_type_are_refused(tmp_path: Path) -> None:
    layouts.write_cifar100(tmp_path / "c")
    batch = load_pickle(tmp_path / "c/train")
    batch["data"] = batch["data"].view(np.ndarray)
    for changed, reason in (
        (batch["data"].astype(np.float32) / 255, "its pixels are float32, not uint8"),
        (batch["data"].astype(np.int16), "its pixels are int16, not uint8"),
        (batch["data"].tolist(), "its pixels are list, not uint8"),
        (batch["data"][:, :3000], "its pixels have the shape"),
    ):
        (tmp_path / "c/train").write_bytes(pickle.dumps({**batch, "data": changed}))
        with pytest.raises(InputError, match=f"c/train is not a batch of CIFAR-100 .*{reason}"):
            imported("cifar100", tmp_path, tmp_path / "c")
    for label in (2**70, 2**40, float("inf"), -1, 100):
        labels = [label, *batch["fine_labels"][1:]]
        (tmp_path / "c/train").write_bytes(pickle.dumps({**batch, "fine_labels": labels}))
        with pytest.raises(InputError, match=r"c/train is not a batch of CIFAR-100 .*its labels"):
            imported("cifar100", tmp_path, tmp_path / "c")


def test_cifar100_batches_as_tools_rewrite_them(tmp_path: Path, root: Path) -> None:
    """Keys and names of bytes; pixels whose channels come last."""
    layouts.write_cifar100(tmp_path / "c")
    for name in ("train", "test"):
        batch = load_pickle(tmp_path / "c" / name)
        pixels = batch["data"].view(np.ndarray).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        content = {b"data": pixels, b"fine_labels": np.array(batch["fine_labels"])}
        (tmp_path / "c" / name).write_bytes(pickle.dumps(content))
    names = [name.encode() for name in layouts.CIFAR_CLASSES]
    (tmp_path / "c/meta").write_bytes(pickle.dumps({b"fine_label_names": names}))
    assert imported("cifar100", tmp_path, tmp_path / "c").fingerprint == published("cifar100")(root).fingerprint


def test_miniimagenet_pickles_with_keys_of_bytes(tmp_path: Path, root: Path) -> None:
    layouts.write_mini_cache(tmp_path / "m")
    for path in (tmp_path / "m").glob("*.pkl"):
        values = load_pickle(path)
        values["image_data"] = values["image_data"].view(np.ndarray)
        rows = {name.encode(): np.asarray(rows, np.float64) for name, rows in values["class_dict"].items()}
        path.write_bytes(pickle.dumps({b"image_data": values["image_data"], b"class_dict": rows}))
    data = imported("miniimagenet", tmp_path, tmp_path / "m")
    assert data.classes == published("miniimagenet")(root).classes
    path.write_bytes(pickle.dumps({**values, "class_dict": {name: [0, 1] for name in values["class_dict"]}}))
    with pytest.raises(InputError, match="an image has two classes, or one twice"):
        imported("miniimagenet", tmp_path / "other", tmp_path / "m")


@pytest.mark.parametrize("change", ["bom", "blanks", "semicolons", "tabs"])
def test_lists_that_a_spreadsheet_has_saved_are_read(tmp_path: Path, root: Path, change: str) -> None:
    layouts.write_mini_csv(tmp_path / "m")
    for path in (tmp_path / "m").glob("*.csv"):
        comma = {"bom": ",", "blanks": " , ", "semicolons": ";", "tabs": "\t"}[change]
        text = path.read_text().replace(",", comma).replace("\n", "\r\n")
        path.write_bytes(text.encode("utf-8-sig" if change == "bom" else "utf-8"))
    assert imported("miniimagenet", tmp_path, tmp_path / "m").fingerprint == published("miniimagenet")(root).fingerprint


@pytest.mark.parametrize(
    ("table", "row", "words", "reason"),
    [
        ("images", 3, "3 ../../outside.jpg", "row 3: its file lies outside of the folder images"),
        ("images", 3, "3 /etc/passwd", "row 3: its file lies outside of the folder images"),
        ("bounding_boxes", 5, "5 1.0 1.0 nan inf", "row 5: its box 1.0 1.0 nan inf lies in no picture"),
        ("bounding_boxes", 5, "5 1 1 1e300 20", "row 5: its box .* lies in no picture"),
        ("bounding_boxes", 5, "5 -4 1 20 20", "row 5: its box .* lies in no picture"),
        ("bounding_boxes", 5, "5 1 1 0 20", "row 5: its box .* lies in no picture"),
        ("bounding_boxes", 5, "5 1 1 x 20", "row 5: its box is not made of numbers"),
        ("image_class_labels", 5, "5 999", "row 5: there is no class '999'"),
        ("train_test_split", 5, "5 yes", "row 5: it is neither 0 nor 1"),
        ("image_class_labels", 5, "5 1\n5 2", "line 6: 5 stands twice"),
        ("classes", 5, "5", "line 5: '5'"),
    ],
)
def test_cub_tables_are_checked_row_by_row(
    tmp_path: Path, sources: Path, table: str, row: int, words: str, reason: str
) -> None:
    place = Path(shutil.copytree(sources / "CUB_200_2011", tmp_path / "cub"))
    lines = (place / f"{table}.txt").read_text().splitlines()
    lines[row - 1] = words
    (place / f"{table}.txt").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=rf"{table}\.txt is damaged \({reason}") as caught:
        imported("cub", tmp_path, place)
    assert "\n" not in str(caught.value)
