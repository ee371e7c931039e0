"""Published sets, read in the layouts that they come in."""

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

from benchmark.data import DATASETS, ImageSet, class_splits, memory_map
from benchmark.data.class_splits import load_class_split
from benchmark.data.published import Published, data_set
from benchmark.data.task import split_by_group
from benchmark.errors import InputError
from benchmark.hashing import content_key
from benchmark.system.network import offline
from benchmark.system.progress import Silent

from . import layouts

CIFAR_ORDER = (
    *(
        0,
        1,
        3,
        6,
        9,
        10,
        11,
        12,
        13,
        16,
        17,
        18,
        20,
        22,
        23,
        24,
        25,
        28,
        29,
        30,
        31,
        33,
        35,
        36,
        37,
        38,
        39,
        41,
        43,
        44,
    ),
    *(45, 49, 50, 51, 52, 53, 54, 56, 57, 59, 61, 63, 64, 65, 66, 67, 68, 72, 74, 75, 76, 78, 79, 80, 81, 82, 85, 88),
    *(90, 91, 92, 93, 96, 97, 4, 7, 14, 15, 19, 26, 27, 32, 40, 47, 48, 55, 71, 73, 87, 89, 2, 5, 8, 21, 34, 42, 46),
    *(58, 60, 62, 69, 70, 77, 83, 84, 86, 94, 95, 98, 99),
)
"""As the authors of GKD print it."""


COARSE = [
    *(4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1),
    *(10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12),
    *(12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0),
    *(17, 8, 14, 13),
]
FC100_VAL = ["large_carnivores", "large_omnivores_and_herbivores", "non-insect_invertebrates", "small_mammals"]
FC100_TEST = ["aquatic_mammals", "insects", "medium_mammals", "people"]


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    with layouts.small():
        yield


def published(name: str) -> Published:
    entry = data_set(name)
    assert isinstance(entry, Published)
    return entry


def imported(name: str, root: Path, source: Path | None, **given: str) -> ImageSet:
    published(name).import_from(root, source, given, workers=2, progress=Silent())
    return published(name)(root)


def names(data: ImageSet, split: str) -> list[str]:
    return [data.classes[c] for c in data.splits[split]]


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
def test_class_lists_that_ship(name: str, sizes: tuple[int, ...], first: str) -> None:
    parts = load_class_split(name).classes
    assert tuple(map(len, parts.values())) == sizes
    assert len({c for part in parts.values() for c in part}) == sum(sizes)
    assert content_key({part: sorted(found) for part, found in parts.items()}).startswith(first)


def test_fc100_keeps_superclasses_apart() -> None:
    """Against the superclass of each fine class, as CIFAR-100's own batches number both: in order of their names."""
    split = json.loads((Path(class_splits.__file__).parent / "fc100.json").read_text())
    fine = {name: COARSE[c] for c, name in enumerate(layouts.CIFAR_CLASSES)}
    superclasses = sorted(name for part in split["superclasses"].values() for name in part)
    assert [len(part) for part in split["superclasses"].values()] == [12, 4, 4]
    for part, names in split["superclasses"].items():
        assert sorted(split[part]) == [name for name, c in fine.items() if superclasses[c] in names]
    assert split["superclasses"]["val"] == FC100_VAL
    assert split["superclasses"]["test"] == FC100_TEST


def test_class_lists_agree_with_one_another() -> None:
    def union(name: str) -> set[str]:
        return {c for part in load_class_split(name).classes.values() for c in part}

    assert union("fc100") == union("cifar-fs")
    assert union("cub-feat") == union("cub-metadataset")
    assert sorted(int(c[:3]) for c in union("cub-feat")) == list(range(1, 201))
    with pytest.raises(InputError, match=r"class '.*' of split cifar-fs is missing \(100 are\)"):
        load_class_split("cifar-fs").indices(["apples"])


def test_cifar100_batches(root: Path, sources: Path, tmp_path: Path) -> None:
    expected = layouts.write_cifar100(tmp_path / "again")
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


def test_views_share_an_import_and_differ_in_their_split(root: Path) -> None:
    cifar, few, fc = (published(name)(root) for name in ("cifar100", "cifar-fs", "fc100"))
    assert [data.name for data in (cifar, few, fc)] == ["cifar100", "cifar-fs", "fc100"]
    assert np.array_equal(cifar.images, fc.images)
    assert few.splits == cifar.splits
    assert few.describe()["split"] == cifar.describe()["split"] == "cifar-fs"
    assert fc.describe()["split"] == "fc100"
    assert fc.fingerprint != few.fingerprint
    assert fc.describe()["split_hash"] != few.describe()["split_hash"]
    assert set(names(fc, "test")) > {"baby", "beaver", "bee", "fox"}
    assert not set(names(fc, "train")) & {"baby", "beaver", "bee", "fox", "lion", "camel", "crab", "hamster"}
    assert published("fc100").state(root) == "imported as cifar100"


@pytest.mark.parametrize(("name", "prefix"), [("cifar-fs", "CIFAR_FS"), ("fc100", "FC100")])
@pytest.mark.parametrize("write", [layouts.python2_pickle, pickle.dumps])
def test_few_shot_pickles_of_cifar100(tmp_path: Path, root: Path, name: str, prefix: str, write: Any) -> None:
    """The same images of the same classes as by way of CIFAR-100's batches, in the order of the pickles."""
    layouts.write_cifar_parts(tmp_path / "few", prefix, load_class_split(name).classes, write)
    data, batches = imported(name, tmp_path / "root", tmp_path / "few"), published(name)(root)
    assert data.classes == batches.classes
    assert data.splits == batches.splits
    assert data.orders == batches.orders
    assert data.official_test is None
    assert data.describe()["source_form"] == "pickles by part"
    for c in range(100):
        ours, theirs = (sorted(x.tobytes() for x in s.images[s.where([c])]) for s in (data, batches))
        assert ours == theirs
    assert published(name).state(tmp_path / "root") == "imported"
    with pytest.raises(InputError, match="holds none of meta"):
        imported("cifar100", tmp_path / "root", tmp_path / "few")


def test_few_shot_pickles_of_another_split_are_refused(tmp_path: Path) -> None:
    parts = load_class_split("cifar-fs").classes
    layouts.write_cifar_parts(tmp_path / "few", "FC100", parts, pickle.dumps)
    with pytest.raises(InputError, match=r"FC100_train.pickle is not whole or of another split: not 6 images of each"):
        imported("fc100", tmp_path, tmp_path / "few")
    layouts.write_cifar_parts(tmp_path / "few", "CIFAR_FS", parts, pickle.dumps)
    (tmp_path / "few/CIFAR_FS_val.pickle").write_bytes(pickle.dumps({"data": np.zeros((2, 32, 32), np.uint8)}))
    with pytest.raises(InputError, match=r"CIFAR_FS_val.pickle is no part of CIFAR_FS"):
        imported("cifar-fs", tmp_path, tmp_path / "few")
    (tmp_path / "few/CIFAR_FS_val.pickle").unlink()
    with pytest.raises(InputError, match=r"CIFAR_FS_val.pickle cannot be read"):
        imported("cifar-fs", tmp_path, tmp_path / "few")


def test_cub_tables_images_and_official_split(root: Path, sources: Path) -> None:
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


def test_cub_is_cropped_to_its_boxes(root: Path) -> None:
    """The boxes hold a red square and nothing else."""
    red = np.array([250, 0, 0])
    whole, cropped = published("cub")(root), published("cub-feat")(root)
    assert np.abs(cropped.images.astype(int) - red).max() < 40
    assert np.abs(whole.images[:, :4].astype(int) - red).max() > 100
    assert cropped.describe()["import"] == {"size": 84, "resize": "centre", "crop": True}
    assert whole.describe()["import"]["crop"] is False


def test_the_four_splits_of_cub(root: Path) -> None:
    closer, frn, feat, meta = (published(f"cub-{name}")(root) for name in ("closerlook", "frn", "feat", "metadataset"))
    for c in range(200):
        assert (c in closer.splits["train"]) == (c % 2 == 0)
        assert (c in closer.splits["val"]) == (c % 4 == 1)
        number = c + 1
        assert (c in frn.splits["train"]) == (number % 2 == 0)
        assert (c in frn.splits["test"]) == (number % 4 == 3)
    assert sorted(frn.splits["val"] + frn.splits["test"]) == list(closer.splits["train"])
    for data, name in ((feat, "cub-feat"), (meta, "cub-metadataset")):
        for part, wanted in load_class_split(name).classes.items():
            assert sorted(names(data, part)) == sorted(wanted)
    assert len({data.describe()["split_hash"] for data in (closer, frn, feat, meta)}) == 4
    assert published("cub")(root).describe()["split"] == "cub-closerlook"


@pytest.mark.parametrize("folders", [False, True])
def test_cub_as_feat_has_it(tmp_path: Path, sources: Path, folders: bool) -> None:
    """Lists with spaces in their first line and 30 columns, photos that are cropped already and not cropped again."""
    place = layouts.write_cub_feat(tmp_path / "cub", sources / "CUB_200_2011", folders=folders)
    data = imported("cub-feat", tmp_path / "root", place, size="16", resize="squash")
    for part, wanted in load_class_split("cub-feat").classes.items():
        assert sorted(names(data, part)) == sorted(wanted)
    assert data.classes == tuple(layouts.CUB_CLASSES)
    assert np.bincount(data.labels).tolist() == [3] * 200
    assert data.describe()["source_form"] == "cropped images, lists of FEAT"
    for c in (0, 77, 199):  # in each the crop is one grey, by its class
        assert np.unique(data.images[data.where([c])]).tolist() == [c]


def test_lists_that_are_not_feats_are_told(tmp_path: Path, sources: Path) -> None:
    place = layouts.write_cub_feat(tmp_path / "cub", sources / "CUB_200_2011", folders=False)
    rows = (place / "split/val.csv").read_text().splitlines()
    for changed, message in (
        (rows[1:], "is no list of filename, label"),
        ([*rows, "x.jpg"], "is no list of filename, label"),
        ([*rows, "../x.jpg," + rows[1].split(",")[1]], "is no list of filename, label"),
        ([*rows, "x.jpg,001.Nothing"], "does not have the 50 classes of cub-feat"),
        ([rows[0], *rows[4:]], "does not have the 50 classes of cub-feat"),
        (rows[:-1], "name 599 images, not 600"),
    ):
        (place / "split/val.csv").write_text("\n".join(changed) + "\n")
        with pytest.raises(InputError, match=message):
            imported("cub-feat", tmp_path / "root", place)
    with pytest.raises(InputError, match=r"holds none of images\.txt"):
        imported("cub", tmp_path / "root", place)


def test_characters_turned_are_further_classes(tmp_path: Path, root: Path, sources: Path) -> None:
    data = imported("omniglot", tmp_path, sources / "omniglot", rotations="true")
    plain = published("omniglot")(root)
    assert data.label == "omniglot+rotations=true"
    assert [len(data.splits[part]) for part in ("train", "val", "test")] == [4 * 1028, 4 * 172, 4 * 423]
    assert data.describe()["split"] == "omniglot-vinyals-rotations"
    side = {c: part for part, classes in data.splits.items() for c in classes}
    for c in (0, 700, 1622):
        drawing = plain.images[plain.where([c])[0], :, :, 0]
        for turn in range(4):
            name = plain.classes[c] + (f"/turned {90 * turn}" if turn else "")
            own = data.classes.index(name)
            (turned,) = data.images[data.where([own])]
            assert side[own] == side[c]
            for y, x in ((0, 0), (5, 13), (20, 3), (27, 14)):
                at = {0: (y, x), 1: (x, 27 - y), 2: (27 - y, 27 - x), 3: (27 - x, y)}[turn]
                assert turned[y, x, 0] == drawing[at]


def test_an_import_from_before_a_setting_was_added_stands(tmp_path: Path, root: Path) -> None:
    folder = Path(shutil.copytree(root / "sets/omniglot", tmp_path / "sets/omniglot"))
    index = json.loads((folder / "index.json").read_text())
    del index["settings"]["rotations"]
    (folder / "index.json").write_text(json.dumps(index))
    assert published("omniglot")(tmp_path).fingerprint == published("omniglot")(root).fingerprint
    heard = Heard()
    published("omniglot").import_from(tmp_path, None, {}, workers=1, progress=heard)
    assert heard.lines == ["omniglot is imported already"]


def test_omniglot_folders(root: Path) -> None:
    data = published("omniglot")(root)
    assert data.images.shape == (1623, 28, 28, 1)
    assert (data.background, data.flip_invariant) == (255, False)
    assert sum(len(data.splits[part]) for part in data.splits) == 1623
    assert data.classes[data.labels[0]] == data.classes[0]
    for c in (0, 700, 1622):
        dark = int((data.images[data.where([c])[0], :, 13, 0] < 128).sum())
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
def test_the_four_forms_of_miniimagenet_are_one_set(tmp_path: Path, root: Path, write: Any, form: str) -> None:
    write(tmp_path / "mini")
    data = imported("miniimagenet", tmp_path / "root", tmp_path / "mini")
    expected = layouts.mini_images()
    assert len(data.images) == 200
    for c, name in enumerate(data.classes):
        assert all(np.array_equal(data.images[i], x) for i, x in zip(data.where([c]), expected[name], strict=True))
    for part, wanted in layouts.MINI_PARTS.items():
        assert names(data, part) == list(wanted)
    assert data.describe()["source_form"] == form


def test_validation_may_be_spelt_out(tmp_path: Path) -> None:
    layouts.write_mini_cache(tmp_path / "mini")
    (tmp_path / "mini/mini-imagenet-cache-val.pkl").rename(tmp_path / "mini/mini-imagenet-cache-validation.pkl")
    assert len(imported("miniimagenet", tmp_path / "root", tmp_path).images) == 200


@pytest.mark.parametrize("form", ["npz", "png"])
def test_the_two_forms_of_tieredimagenet_are_one_set(tmp_path: Path, form: str) -> None:
    """Colours are right in both: the arrays have blue first, as OpenCV has it."""
    layouts.write_tiered(tmp_path / "tiered", form)
    data = imported("tieredimagenet", tmp_path / "root", tmp_path / "tiered")
    assert np.array_equal(data.images, np.concatenate(list(layouts.tiered_images().values())))
    assert [len(data.splits[part]) for part in ("train", "val", "test")] == [5, 3, 4]
    assert data.labels.tolist() == [*list(range(5)) * 3, *list(range(5, 8)) * 3, *list(range(8, 12)) * 3]
    assert data.classes[6] == "val 001 val kind, crane"


def test_archives_are_imported_as_they_are(tmp_path: Path, sources: Path, root: Path) -> None:
    layouts.pack(sources / "cifar-100-python", tmp_path / "cifar-100-python.tgz")
    data = imported("cifar100", tmp_path / "root", tmp_path / "cifar-100-python.tgz")
    assert data.fingerprint == published("cifar100")(root).fingerprint
    for part in ("images_background", "images_evaluation"):
        layouts.pack(sources / "omniglot" / part, tmp_path / f"{part}.zip")
    data = imported("omniglot", tmp_path / "root", tmp_path)
    assert data.fingerprint == published("omniglot")(root).fingerprint
    assert {path.name for path in (tmp_path / "root/sets").iterdir() if path.is_dir()} == {"cifar100", "omniglot"}


def test_another_archive_is_unpacked_afresh(tmp_path: Path, sources: Path) -> None:
    """What an archive held that was not whole is not taken for what the next one holds."""
    short = Path(shutil.copytree(sources / "tiered-imagenet", tmp_path / "tiered"))
    (short / "val_images.npz").unlink()
    archive = tmp_path / "tiered.zip"
    layouts.pack(short, archive)
    with pytest.raises(InputError, match="holds neither"):
        imported("tieredimagenet", tmp_path, archive)
    (unpacked,) = (tmp_path / "sets/.tieredimagenet.part").glob("source-*")
    archive.unlink()
    layouts.pack(sources / "tiered-imagenet", archive)
    assert len(imported("tieredimagenet", tmp_path, archive).images) == 36
    assert not unpacked.exists()
    assert [path.name for path in (tmp_path / "sets").iterdir() if path.is_dir()] == ["tieredimagenet"]


def test_settings_are_kept_told_and_part_of_the_name_in_records(tmp_path: Path, sources: Path) -> None:
    data = imported("cub", tmp_path, sources / "CUB_200_2011", size="48", crop="true")
    assert data.images.shape[1:] == (48, 48, 3)
    assert data.label == "cub+crop=true+size=48"
    assert data.name == "cub"
    heard = Heard()
    for given, message in (
        ({"size": "48", "crop": "true"}, None),
        ({"size": "64"}, r"imported with size=48, resize=centre, crop=true; to import it with size=64, .* remove cub"),
        ({"size": "4"}, r"import\.size = '4'"),
        ({"sise": "64"}, r"no setting import\.sise; did you mean 'size'"),
    ):
        if message is None:
            published("cub").import_from(tmp_path, None, given, workers=1, progress=heard)
            assert heard.lines == ["cub is imported already"]
        else:
            with pytest.raises(InputError, match=message):
                published("cub").import_from(tmp_path, sources, given, workers=1, progress=heard)
    assert published("cub-feat")(tmp_path).images.shape == data.images.shape
    with pytest.raises(InputError, match=r"cub-closerlook is not imported; .* data import cub-closerlook --data"):
        published("cub-closerlook")(tmp_path)
    with pytest.raises(InputError, match="cub-feat is defined with crop=true"):
        published("cub-feat").import_from(tmp_path, sources, {"crop": "false"}, workers=1, progress=heard)
    with pytest.raises(InputError, match=r"no setting import\.size"):
        published("cifar100").import_from(tmp_path, sources, {"size": "64"}, workers=1, progress=heard)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("cifar-fs", "fetch cifar100{data} && python -m benchmark data import cifar100{data}, or"),
        ("cub-frn", "fetch cub{data} && python -m benchmark data import cub{data}, or if you have its files python"),
        ("cub-feat", "fetch cub-feat{data} && python -m benchmark data import cub-feat{data}, or if"),
        ("miniimagenet", "import miniimagenet{data} --from PATH"),
    ],
)
def test_a_set_that_is_not_imported_tells_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, command: str
) -> None:
    for place, data in ((tmp_path / "other", f" --data {tmp_path / 'other'}"), (tmp_path, "")):
        monkeypatch.setenv("BENCHMARK_DATA", str(tmp_path))
        with pytest.raises(InputError) as caught:
            published(name)(place)
        assert str(caught.value).startswith(f"data set {name} is not imported; type: python -m benchmark data ")
        assert command.format(data=data) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_fetched_files_are_imported_without_naming_them(tmp_path: Path, sources: Path) -> None:
    entry = published("cifar100")
    with pytest.raises(InputError, match="the files of cifar100 are not there; type: python -m benchmark data fetch"):
        entry.import_from(tmp_path, None, {}, workers=1, progress=Silent())
    entry.store(tmp_path).mkdir(parents=True)
    layouts.pack(sources / "cifar-100-python", entry.store(tmp_path) / "cifar-100-python.tar.gz")
    assert published("fc100").state(tmp_path) == "fetched"
    with pytest.raises(InputError, match=f"type: python -m benchmark data import cifar100 --data {tmp_path}$"):
        published("fc100")(tmp_path)
    assert len(imported("cifar100", tmp_path, None).images) == 600
    assert entry.remove(tmp_path, downloads=True) > 10**6
    assert not entry.store(tmp_path).exists()
    assert entry.state(tmp_path) == "not here"
    with pytest.raises(InputError, match="nothing to remove"):
        entry.remove(tmp_path, downloads=True)


def test_steps_are_told_where_nothing_can_be_fetched(tmp_path: Path) -> None:
    for name in ("miniimagenet", "tieredimagenet"):
        heard = Heard()
        with pytest.raises(InputError, match=f"{name} cannot be fetched by a program; the steps"):
            published(name).fetch(tmp_path, heard)
        assert heard.lines[0].startswith("1. ImageNet's terms forbid")
        assert heard.lines[-1].endswith(f"python -m benchmark data import {name} --from FOLDER")
    heard = Heard()
    with offline(), pytest.raises(InputError, match=r"cifar-100-python\.tar\.gz is not there, and --offline"):
        published("fc100").fetch(tmp_path, heard)
    assert len(heard.lines) == 2


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
def test_a_file_that_is_missing_is_named(
    tmp_path: Path, sources: Path, name: str, source: str, harm: str, message: str
) -> None:
    place = harmed(tmp_path, sources / source)
    if name == "cifar100" and harm == "test":
        (place / harm).write_bytes((place / harm).read_bytes()[:-100])
    else:
        (place / harm).unlink()
    with pytest.raises(InputError, match=message) as caught:
        imported(name, tmp_path / "root", place)
    assert "\n" not in str(caught.value)
    assert published(name).found(tmp_path / "root") is None


def test_both_parts_of_omniglot_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "images_background").mkdir()
    with pytest.raises(InputError, match="holds no folder images_evaluation; unpack images_evaluation"):
        imported("omniglot", tmp_path / "root", tmp_path)


def test_what_is_not_whole_is_told(tmp_path: Path, sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        ("x.png,n00000001", "has images of 'n00000001', no class of miniImageNet's train split"),
        ("../x.png,n01532829", "no plain name"),
    ):
        (place / "train.csv").write_text("\n".join([*rows, row]) + "\n")
        with pytest.raises(InputError, match=message):
            imported("miniimagenet", tmp_path, place)
    with pytest.raises(InputError, match="does not exist; --from names a folder with"):
        imported("miniimagenet", tmp_path, tmp_path / "nowhere")
    assert not list((tmp_path / "sets").glob("[!.]*"))


def test_a_folder_is_imported_when_used(tmp_path: Path) -> None:
    layouts.write_folder(tmp_path / "photos")
    entry = published(f"folder:{tmp_path / 'photos'}")
    data = entry(tmp_path / "root")
    assert data.name == "folder:photos"
    assert data.label.startswith("folder:photos+")
    assert data.classes == tuple(f"kind {c}" for c in range(10))
    assert np.bincount(data.labels).tolist() == [6] * 10
    assert [len(data.splits[part]) for part in ("train", "val", "test")] == [6, 2, 2]
    assert data.describe()["split"] == "drawn"
    (stored,) = (tmp_path / "root/sets").glob("folder-photos-*")
    before = (stored / "index.json").stat().st_mtime_ns
    assert published(f"folder:{tmp_path}/./photos")(tmp_path / "root").fingerprint == data.fingerprint
    assert (stored / "index.json").stat().st_mtime_ns == before

    shutil.copytree(tmp_path / "photos", tmp_path / "elsewhere" / "photos")
    moved = published(f"folder:{tmp_path / 'elsewhere' / 'photos'}")(tmp_path / "other root")
    assert (moved.label, moved.fingerprint) == (data.label, data.fingerprint)

    (tmp_path / "photos/kind 3/0.jpg").unlink()
    changed = published(f"folder:{tmp_path / 'photos'}")(tmp_path / "root")
    assert np.bincount(changed.labels).tolist() == [6] * 3 + [5] + [6] * 6
    assert changed.label != data.label
    assert published(f"folder:{tmp_path / 'photos'}").remove(tmp_path / "root", downloads=False) > 0
    assert stored.exists()


def test_a_full_disk_is_told_and_the_same_command_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layouts.write_folder(tmp_path / "photos")
    name = f"folder:{tmp_path / 'photos'}"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(memory_map.MapWriter, "append", full)
        with pytest.raises(
            InputError, match=r"cannot import folder:photos \(No space left .* the same command goes on"
        ):
            published(name)(tmp_path)
    assert len(published(name)(tmp_path).images) == 60


def test_a_folder_may_bring_its_split(tmp_path: Path) -> None:
    layouts.write_folder(tmp_path / "photos", splits=True)
    name = f"folder:{tmp_path / 'photos'}"
    published(name).import_from(tmp_path, None, {"size": "32"}, workers=1, progress=Silent())
    data = published(name)(tmp_path)
    assert data.label.endswith("+size=32")
    assert names(data, "val") == ["kind 0", "kind 1"]
    assert names(data, "test") == ["kind 2", "kind 3"]
    assert data.describe()["split"] == "splits.json"
    (tmp_path / "photos/splits.json").write_text('{"train": ["kind 9"], "val": [], "test": ["kind 11"]}')
    with pytest.raises(InputError, match=r"class 'kind 11' of split splits\.json is missing"):
        published(name)(tmp_path)
    for text in ("[1]", "{", '{"train": []}'):
        (tmp_path / "photos/splits.json").write_text(text)
        with pytest.raises(InputError, match=r"split file .*splits\.json is not"):
            published(name)(tmp_path)


def test_folders_that_are_none_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere cannot be read"):
        published(f"folder:{tmp_path / 'nowhere'}")(tmp_path)
    layouts.write_folder(tmp_path / "photos", classes=1)
    with pytest.raises(InputError, match="fewer than two class folders; put each image at CLASS/IMAGE"):
        published(f"folder:{tmp_path / 'photos'}")(tmp_path)
    (tmp_path / "photos" / "kind x").mkdir()
    with pytest.raises(InputError, match="class folder 'kind x' holds no image"):
        published(f"folder:{tmp_path / 'photos'}")(tmp_path)
    layouts.picture(0, 9, 9).save(tmp_path / "photos" / "kind x" / "a.PNG")
    with pytest.raises(InputError, match="--from does not go with folder:photos"):
        published(f"folder:{tmp_path / 'photos'}").import_from(tmp_path, tmp_path, {}, workers=1, progress=Silent())
    with pytest.raises(InputError, match="unknown data set 'folder:'"):
        DATASETS.get("folder:")
