"""Download, import and removal of published sets and of folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.data import DATASETS, memory_map
from benchmark.data.dataset_store import download_dataset, import_dataset, remove_dataset
from benchmark.data.sets.folder import describe_own_imports
from benchmark.data.task import hold_out, split_by_group
from benchmark.errors import InputError
from benchmark.hashing import content_key
from benchmark.spec import content_name
from benchmark.system.network import offline
from benchmark.system.progress import Silent

from . import layouts
from .imports import MessageLog, class_names, imported, published


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    with layouts.small():
        yield


def test_import_reads_archives(tmp_path: Path, sources: Path, root: Path) -> None:
    layouts.pack(sources / "cifar-100-python", tmp_path / "cifar-100-python.tgz")
    data = imported("cifar100", tmp_path / "root", tmp_path / "cifar-100-python.tgz")
    assert data.fingerprint == published("cifar100")(root).fingerprint
    for part in ("images_background", "images_evaluation"):
        layouts.pack(sources / "omniglot" / part, tmp_path / f"{part}.zip")
    data = imported("omniglot", tmp_path / "root", tmp_path)
    assert data.fingerprint == published("omniglot")(root).fingerprint
    assert {path.name for path in (tmp_path / "root/sets").iterdir() if path.is_dir()} == {"cifar100", "omniglot"}


def test_import_unpacks_a_changed_archive_again(tmp_path: Path, sources: Path) -> None:
    """Files of an incomplete archive are not used for the next archive of that name."""
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


def test_import_settings_are_part_of_the_name_in_records(tmp_path: Path, sources: Path) -> None:
    data = imported("cub", tmp_path, sources / "CUB_200_2011", size="48", crop="true")
    assert data.images.shape[1:] == (48, 48, 3)
    assert data.label == "cub+crop=true+size=48"
    assert data.name == "cub"
    log = MessageLog()
    for overrides, message in (
        ({"size": "48", "crop": "true"}, None),
        ({"size": "64"}, r"imported with size=48, resize=centre, crop=true; to import it with size=64, .* remove cub"),
        ({"size": "4"}, r"import\.size = '4'"),
        ({"sise": "64"}, r"no setting import\.sise; did you mean 'size'"),
    ):
        if message is None:
            import_dataset(published("cub"), tmp_path, None, overrides, workers=1, progress=log)
            assert log.lines == ["cub is imported already"]
        else:
            with pytest.raises(InputError, match=message):
                import_dataset(published("cub"), tmp_path, sources, overrides, workers=1, progress=log)
    assert published("cub-feat")(tmp_path).images.shape == data.images.shape
    with pytest.raises(InputError, match=r"cub-closerlook is not imported; .* data import cub-closerlook --data"):
        published("cub-closerlook")(tmp_path)
    with pytest.raises(InputError, match="cub-feat is defined with crop=true"):
        import_dataset(published("cub-feat"), tmp_path, sources, {"crop": "false"}, workers=1, progress=log)
    with pytest.raises(InputError, match=r"no setting import\.size"):
        import_dataset(published("cifar100"), tmp_path, sources, {"size": "64"}, workers=1, progress=log)


def test_import_stays_valid_after_a_setting_was_added(tmp_path: Path, root: Path) -> None:
    folder = Path(shutil.copytree(root / "sets/omniglot", tmp_path / "sets/omniglot"))
    index = json.loads((folder / "index.json").read_text())
    del index["settings"]["rotations"], index["sha256"]
    index["sha256"] = content_key(index)
    (folder / "index.json").write_text(json.dumps(index))
    assert published("omniglot")(tmp_path).fingerprint == published("omniglot")(root).fingerprint
    log = MessageLog()
    import_dataset(published("omniglot"), tmp_path, None, {}, workers=1, progress=log)
    assert log.lines == ["omniglot is imported already"]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("cifar-fs", "download cifar100{data} && python -m benchmark data import cifar100{data}, or"),
        ("cub-frn", "download cub{data} && python -m benchmark data import cub{data}, or if you have its files python"),
        ("cub-feat", "download cub-feat{data} && python -m benchmark data import cub-feat{data}, or if"),
        ("miniimagenet", "import miniimagenet{data} --from PATH"),
    ],
)
def test_missing_import_names_the_command_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, command: str
) -> None:
    for place, data in ((tmp_path / "other", f" --data {tmp_path / 'other'}"), (tmp_path, "")):
        monkeypatch.setenv("BENCHMARK_DATA", str(tmp_path))
        with pytest.raises(InputError) as caught:
            published(name)(place)
        assert str(caught.value).startswith(f"data set {name} is not imported; type: python -m benchmark data ")
        assert command.format(data=data) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_import_uses_downloaded_files(tmp_path: Path, sources: Path) -> None:
    dataset = published("cifar100")
    with pytest.raises(InputError, match="files of cifar100 are not there; type: python -m benchmark data download"):
        import_dataset(dataset, tmp_path, None, {}, workers=1, progress=Silent())
    dataset.download_folder(tmp_path).mkdir(parents=True)
    layouts.pack(sources / "cifar-100-python", dataset.download_folder(tmp_path) / "cifar-100-python.tar.gz")
    assert published("fc100").state(tmp_path) == "downloaded"
    with pytest.raises(InputError, match=f"type: python -m benchmark data import cifar100 --data {tmp_path}$"):
        published("fc100")(tmp_path)
    assert len(imported("cifar100", tmp_path, None).images) == 600
    assert remove_dataset(dataset, tmp_path, downloads=True) > 10**6
    assert not dataset.download_folder(tmp_path).exists()
    assert dataset.state(tmp_path) == "not here"
    with pytest.raises(InputError, match="nothing to remove"):
        remove_dataset(dataset, tmp_path, downloads=True)


def test_failed_download_prints_the_steps_by_hand(tmp_path: Path) -> None:
    for name in ("miniimagenet", "tieredimagenet"):
        log = MessageLog()
        with pytest.raises(InputError, match=f"{name} cannot be downloaded by a program; follow the steps"):
            download_dataset(published(name), tmp_path, log)
        assert log.lines[0].startswith("1. ImageNet's terms forbid")
        assert log.lines[-1].endswith(f"python -m benchmark data import {name} --from FOLDER")
    log = MessageLog()
    with offline(), pytest.raises(InputError, match=r"cifar-100-python\.tar\.gz is not there, and --offline"):
        download_dataset(published("fc100"), tmp_path, log)
    assert len(log.lines) == 2


def test_folder_is_imported_on_first_use(tmp_path: Path) -> None:
    layouts.write_folder(tmp_path / "photos")
    dataset = published(f"folder:{tmp_path / 'photos'}")
    data = dataset(tmp_path / "root")
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
    assert remove_dataset(published(f"folder:{tmp_path / 'photos'}"), tmp_path / "root", downloads=False) > 0
    assert stored.exists()


def test_import_continues_after_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layouts.write_folder(tmp_path / "photos")
    name = f"folder:{tmp_path / 'photos'}"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(memory_map.MapWriter, "append", full)
        with pytest.raises(
            InputError, match=r"cannot import folder:photos \(No space left .* repeat the command to continue"
        ):
            published(name)(tmp_path)
    assert len(published(name)(tmp_path).images) == 60


def test_folder_reads_its_split_file(tmp_path: Path) -> None:
    layouts.write_folder(tmp_path / "photos", splits=True)
    name = f"folder:{tmp_path / 'photos'}"
    import_dataset(published(name), tmp_path, None, {"size": "32"}, workers=1, progress=Silent())
    data = published(name)(tmp_path)
    assert data.label.endswith("+size=32")
    assert class_names(data, "val") == ["kind 0", "kind 1"]
    assert class_names(data, "test") == ["kind 2", "kind 3"]
    assert data.describe()["split"] == "splits.json"
    (tmp_path / "photos/splits.json").write_text('{"train": ["kind 9"], "val": [], "test": ["kind 11"]}')
    with pytest.raises(InputError, match=r"splits\.json names class 'kind 11', of which there is no folder"):
        published(name)(tmp_path)
    for text in ("[1]", "{", '{"train": []}'):
        (tmp_path / "photos/splits.json").write_text(text)
        with pytest.raises(InputError, match=r"split file .*splits\.json is not"):
            published(name)(tmp_path)


def test_folder_without_class_folders_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere cannot be read"):
        published(f"folder:{tmp_path / 'nowhere'}")(tmp_path)
    layouts.write_folder(tmp_path / "photos", classes=1)
    with pytest.raises(
        InputError, match=r"fewer than two class folders; passed over: .*; put each image at CLASS/IMAGE"
    ):
        published(f"folder:{tmp_path / 'photos'}")(tmp_path)
    (tmp_path / "photos" / "kind x").mkdir()
    with pytest.raises(InputError, match="class folder 'kind x' holds no image"):
        published(f"folder:{tmp_path / 'photos'}")(tmp_path)
    layouts.picture(0, 9, 9).save(tmp_path / "photos" / "kind x" / "a.PNG")
    with pytest.raises(InputError, match="--from does not go with folder:photos"):
        import_dataset(published(f"folder:{tmp_path / 'photos'}"), tmp_path, tmp_path, {}, workers=1, progress=Silent())
    with pytest.raises(InputError, match="unknown data set 'folder:'"):
        DATASETS.get("folder:")


def test_folders_with_the_same_images_are_one_data_set(tmp_path: Path) -> None:
    """Splits, random streams and keys follow from the content, not from the folder's name."""
    layouts.write_folder(tmp_path / "garden")
    shutil.copytree(tmp_path / "garden", tmp_path / "elsewhere" / "garden copy")
    one, two = (
        published(f"folder:{tmp_path / place}")(tmp_path / "root") for place in ("garden", "elsewhere/garden copy")
    )
    assert (one.name, two.name) == ("folder:garden", "folder:garden copy")
    assert one.fingerprint == two.fingerprint
    assert one.splits == two.splits
    assert one.seed_name == two.seed_name == "folder"
    assert one.label == f"folder:garden+{one.fingerprint[:8]}"
    assert content_name(one.label) == content_name(two.label) == f"folder:{one.fingerprint[:8]}"
    for split, images in split_by_group(one, test=0.4, val=0.2).items():
        assert images.tolist() == split_by_group(two, test=0.4, val=0.2)[split].tolist()
    assert hold_out(one, one.split("train"), 0.3).key == hold_out(two, two.split("train"), 0.3).key


def test_content_name_leaves_other_names_as_they_are() -> None:
    assert content_name("folder:a+b+0123abcd+resize=cover+size=32") == "folder:0123abcd+resize=cover+size=32"
    assert content_name("folder:x\n+0123abcd") == "folder:0123abcd"
    for name in ("glyphs", "cub+crop=true+size=224", "folder:0123abcd", "folder:plain"):
        assert content_name(name) == name


def test_import_of_a_folder_is_found_by_its_fingerprint(tmp_path: Path) -> None:
    layouts.write_folder(tmp_path / "my photos", splits=True)
    root = tmp_path / "root"
    import_dataset(
        published(f"folder:{tmp_path / 'my photos'}"), root, None, {"size": "24"}, workers=1, progress=Silent()
    )
    data = published(f"folder:{tmp_path / 'my photos'}")(root)
    shutil.rmtree(tmp_path / "my photos")
    ((label, state, what),) = describe_own_imports(root)
    assert (label, state) == (data.label, "imported")
    assert str(tmp_path / "my photos") in what
    for name in (
        label,
        f"folder:{data.fingerprint[:8]}",
        f"folder:{data.fingerprint}",
        f"folder:old+{data.fingerprint[:8]}",
    ):
        found = published(name)(root)
        assert (found.label, found.fingerprint) == (data.label, data.fingerprint)
        assert found.describe()["split"] == "splits.json"
    missing = "folder:my photos+00000000+size=24"
    with pytest.raises(InputError, match=r"neither a folder here nor an import in .*--dataset folder:PATH"):
        published(missing)(root)
    assert remove_dataset(published(label), root, downloads=False) > 0
    assert describe_own_imports(root) == []


def test_changed_folder_is_imported_again_as_before(tmp_path: Path) -> None:
    layouts.write_folder(tmp_path / "photos")
    dataset = published(f"folder:{tmp_path / 'photos'}")
    import_dataset(dataset, tmp_path, None, {"size": "24"}, workers=1, progress=Silent())
    (tmp_path / "photos/kind 3/0.jpg").unlink()
    log = MessageLog()
    changed = published(f"folder:{tmp_path / 'photos'}")
    changed.require_import(tmp_path, log)
    assert "has changed since its import" in log.lines[0]
    assert changed(tmp_path).images.shape == (59, 24, 24, 3)


def test_import_tells_what_the_user_should_know(tmp_path: Path) -> None:
    """Files passed over, copies (one of them in another class), and classes of very unequal size."""
    layouts.write_folder(tmp_path / "photos", classes=5)
    for i in range(60):
        layouts.picture(1000 + i, 20, 20).save(tmp_path / "photos" / "kind 0" / f"more{i}.png")
    shutil.copy(tmp_path / "photos/kind 1/0.jpg", tmp_path / "photos/kind 1/copy.jpg")
    shutil.copy(tmp_path / "photos/kind 1/1.jpg", tmp_path / "photos/kind 2/other.jpg")
    log = MessageLog()
    import_dataset(published(f"folder:{tmp_path / 'photos'}"), tmp_path, None, {}, workers=1, progress=log)
    assert log.lines[0].startswith("passed over: hidden or system files (1, as .hidden); files without the ending")
    assert log.lines[1:] == [
        "2 of 92 images are copies of others, 1 of them in another class, as kind 2/other.jpg of kind 1/1.jpg; "
        "copies stay on one side of every split",
        "classes are strongly unequal: 'kind 3' has 6 images, 'kind 0' has 66; read the mean over classes beside the "
        "accuracy",
    ]
    data = published(f"folder:{tmp_path / 'photos'}")(tmp_path)
    for split in (split_by_group(data, test=0.4, val=0.2),):
        sides = [set(data.groups[images].tolist()) for images in split.values()]
        assert not sides[0] & sides[1]
        assert not sides[0] & sides[2]
        assert not sides[1] & sides[2]


def test_folders_of_parts_give_official_test_images(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("test", 2)):
        for c in range(4):
            (tmp_path / "x" / part / f"c{c}").mkdir(parents=True)
            for i in range(count):
                layouts.picture(10 * c + i + 100 * count, 16, 16).save(tmp_path / "x" / part / f"c{c}" / f"{i}.png")
    shutil.copy(tmp_path / "x/test/c1/0.png", tmp_path / "x/train/c1/copy.png")
    data = published(f"folder:{tmp_path / 'x'}")(tmp_path)
    assert np.bincount(data.labels).tolist() == [5, 6, 5, 5]
    assert data.official_test is not None
    assert np.bincount(data.labels[data.official_test]).tolist() == [2, 3, 2, 2]  # with the copy


def test_photographs_of_a_folder_are_upright(tmp_path: Path) -> None:
    layouts.write_folder(tmp_path / "photos", classes=2)
    exif = Image.Exif()
    exif[274] = 6
    half = np.zeros((16, 16, 3), np.uint8)
    half[:, :8] = 255  # the left of what is stored is the top
    Image.fromarray(half).save(tmp_path / "photos/kind 0/0.jpg", exif=exif)
    import_dataset(
        published(f"folder:{tmp_path / 'photos'}"), tmp_path, None, {"size": "16"}, workers=1, progress=Silent()
    )
    image = published(f"folder:{tmp_path / 'photos'}")(tmp_path).images[0]
    assert image[:7].min() > 200
    assert image[9:].max() < 50


def test_images_that_do_not_decode_are_named_together(tmp_path: Path) -> None:
    layouts.write_folder(tmp_path / "photos")
    for c in range(6):
        for i in range(2):
            (tmp_path / f"photos/kind {c}/{i}.jpg").write_bytes(b"no image")
    with pytest.raises(
        InputError, match=r"12 images do not decode: .*kind 0/0\.jpg .*kind 4/1\.jpg .* and 2 more; repl"
    ):
        published(f"folder:{tmp_path / 'photos'}")(tmp_path)


@pytest.mark.parametrize("path", ["~nosuchuser/images", "~nosuchuser"])
def test_home_of_an_unknown_user_is_a_folder_that_is_not_there(tmp_path: Path, path: str) -> None:
    with pytest.raises(InputError, match=r"nosuchuser.* cannot be read"):
        published(f"folder:{path}")(tmp_path)
    with pytest.raises(InputError, match=r"nosuchuser.* does not exist; --from names"):
        import_dataset(published("cub"), tmp_path, Path(path), {}, workers=1, progress=Silent())
