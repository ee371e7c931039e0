"""Writes small data sets in the layouts of the published ones, with pickles of Python 2 like theirs."""

from __future__ import annotations

import io
import json
import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from benchmark.data.class_splits import load_class_split
from benchmark.data.sets import cifar100, cub, miniimagenet, omniglot, tieredimagenet

Pixels = npt.NDArray[np.uint8]

CIFAR_CLASSES = sorted(name for names in load_class_split("cifar-fs").classes.values() for name in names)
CUB_CLASSES = sorted(name for names in load_class_split("cub-feat").classes.values() for name in names)
MINI_PARTS = load_class_split("miniimagenet").classes
TIERED_CLASSES = {"train": 5, "val": 3, "test": 4}


@contextmanager
def small() -> Iterator[None]:
    """Replace the published numbers of images by those of these layouts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar100, "PER_CLASS", {"train": 4, "test": 2})
        patch.setattr(cub, "IMAGES", 600)
        patch.setattr(cub, "TRAINING_IMAGES", 400)
        patch.setattr(omniglot, "PER_CLASS", 1)
        patch.setattr(miniimagenet, "PER_CLASS", 2)
        patch.setattr(tieredimagenet, "CLASSES", TIERED_CLASSES)
        patch.setattr(tieredimagenet, "IMAGES", {part: 3 * n for part, n in TIERED_CLASSES.items()})
        yield


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    """Writes byte strings for text and arrays, as Python 2 and its numpy did."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def __init__(self, file: Any) -> None:
        super().__init__(file, protocol=2)

    def save_string(self, value: str | bytes) -> None:
        raw = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(pickle.BINSTRING + len(raw).to_bytes(4, "little") + raw)
        self.memoize(value)

    def save_global(self, obj: Any, name: str | None = None) -> None:
        module = obj.__module__.replace("numpy._core", "numpy.core")
        self.write(pickle.GLOBAL + f"{module}\n{name or obj.__name__}\n".encode())
        self.memoize(obj)

    dispatch[bytes] = dispatch[str] = save_string
    dispatch[type(len)] = dispatch[type] = save_global


def python2_pickle(value: Any) -> bytes:
    buffer = io.BytesIO()
    Python2Pickler(buffer).dump(value)
    return buffer.getvalue()


def noise(seed: int, *shape: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def picture(seed: int, width: int, height: int) -> Image.Image:
    """A smooth picture, which JPEG changes little."""
    return Image.fromarray(noise(seed, 4, 5, 3)).resize((width, height), Image.Resampling.BICUBIC)


def write_cifar100(folder: Path) -> dict[str, Pixels]:
    """``cifar-100-python``: train, test, meta. Returns the images of either, N x 32 x 32 x 3, in order of the file."""
    folder.mkdir(parents=True)
    images = {}
    for seed, (side, count) in enumerate((("train", 4), ("test", 2))):
        pixels = noise(seed, 100 * count, 32, 32, 3)
        labels = np.random.default_rng(9).permutation(np.repeat(np.arange(100), count)).tolist()
        batch = {
            "filenames": [f"{CIFAR_CLASSES[c]}_s_{i:06d}.png" for i, c in enumerate(labels)],
            "batch_label": f"{side}ing batch 1 of 1",
            "fine_labels": labels,
            "coarse_labels": [c // 5 for c in labels],
            "data": np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).reshape(len(pixels), 3072),
        }
        (folder / side).write_bytes(python2_pickle(batch))
        images[side] = pixels
    coarse = [f"superclass_{c}" for c in range(20)]
    (folder / "meta").write_bytes(python2_pickle({"fine_label_names": CIFAR_CLASSES, "coarse_label_names": coarse}))
    return images


def write_cifar_parts(
    folder: Path, prefix: str, parts: Mapping[str, tuple[str, ...]], write: Callable[[Any], bytes]
) -> None:
    """{prefix}_{train,val,test}.pickle: the images of ``write_cifar100``, shuffled, with their classes' numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.concatenate([noise(0, 400, 32, 32, 3), noise(1, 200, 32, 32, 3)])
    labels = np.concatenate([np.random.default_rng(9).permutation(np.repeat(np.arange(100), n)) for n in (4, 2)])
    for part, names in parts.items():
        rows = np.flatnonzero(np.isin(labels, [CIFAR_CLASSES.index(name) for name in names]))
        rows = np.random.default_rng(len(names)).permutation(rows)
        values = {"data": pixels[rows], "labels": labels[rows].tolist()}
        (folder / f"{prefix}_{part}.pickle").write_bytes(write(values))


def write_cifar_files(folder: Path) -> None:
    """cifar100/data/CLASS/*.png with Bertinetto's lists of classes, as torchmeta and learn2learn unpack it."""
    pixels = np.concatenate([noise(0, 400, 32, 32, 3), noise(1, 200, 32, 32, 3)])
    labels = np.concatenate([np.random.default_rng(9).permutation(np.repeat(np.arange(100), n)) for n in (4, 2)])
    for number, (image, c) in enumerate(zip(pixels, labels, strict=True)):
        place = folder / "cifar100/data" / CIFAR_CLASSES[c]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number:05d}.png")
    lists = folder / "cifar100/splits/bertinetto"
    lists.mkdir(parents=True)
    for part, names in load_class_split("cifar-fs").classes.items():
        (lists / f"{part}.txt").write_text("".join(f"{name}\n" for name in names))


def write_cub_feat(folder: Path, official: Path, *, folders: bool) -> Path:
    """FEAT's ``split`` and ``images``: names of the official files; every image is the grey of its class number."""
    (folder / "split").mkdir(parents=True)
    (folder / "images").mkdir()
    for part, names in load_class_split("cub-feat").classes.items():
        rows = ["filename, label, concept_label"]
        for name in names:
            place = folder / "images" / (name if folders else "")
            place.mkdir(exist_ok=True)
            for path in sorted((official / "images" / name).iterdir()):
                grey = (CUB_CLASSES.index(name),) * 3
                Image.new("RGB", (21, 17), grey).save(place / path.name, format="PNG")
                rows.append(",".join([path.name, name, *("12" for _ in range(28))]))
        (folder / "split" / f"{part}.csv").write_text("\n".join(rows) + "\n")
    return folder


def write_cub(folder: Path) -> None:
    """``CUB_200_2011``: 3 photos of each species. The last is an official test image; boxes are in the middle."""
    tables: dict[str, list[str]] = {
        name: [] for name in ("images", "image_class_labels", "train_test_split", "bounding_boxes", "classes")
    }
    number = 0
    for c, name in enumerate(CUB_CLASSES):
        tables["classes"].append(f"{c + 1} {name}")
        (folder / "images" / name).mkdir(parents=True)
        for i in range(3):
            number += 1
            file = f"{name}/{name[4:]}_{i:04d}_{number}.jpg"
            width, height = 40 + 2 * i, 30
            image = picture(number, width, height)
            image.paste((250, 0, 0), (10, 5, 30, 25))
            image.save(folder / "images" / file, quality=95, subsampling=0)
            tables["images"].append(f"{number} {file}")
            tables["image_class_labels"].append(f"{number} {c + 1}")
            tables["train_test_split"].append(f"{number} {int(i < 2)}")
            tables["bounding_boxes"].append(f"{number} 10.0 5.0 20.0 20.0")
    for name, rows in tables.items():
        (folder / f"{name}.txt").write_text("".join(f"{row}\n" for row in rows))


def write_omniglot(folder: Path) -> None:
    """``images_background`` and ``images_evaluation``: alphabets, characters, one drawing of 105 x 105 each."""
    names = sorted(name for names in load_class_split("omniglot-vinyals").classes.values() for name in names)
    alphabets = sorted({name.split("/")[0] for name in names})
    drawings = []
    for length in range(50):
        drawing = np.full((105, 105), 255, np.uint8)
        drawing[20 : 30 + length, 40:60] = 0
        buffer = io.BytesIO()
        Image.fromarray(drawing).convert("1").save(buffer, format="PNG")
        drawings.append(buffer.getvalue())
    for number, name in enumerate(names):
        part = "images_background" if alphabets.index(name.split("/")[0]) < 30 else "images_evaluation"
        path = folder / part / name / f"{number:04d}_01.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(drawings[number % 50])


def mini_images() -> dict[str, list[Pixels]]:
    """Two images of 84 x 84 of every class of miniImageNet, the same for all forms."""
    names = [name for names in MINI_PARTS.values() for name in names]
    return {name: [noise(100 * c + i, 84, 84, 3) for i in range(2)] for c, name in enumerate(names)}


def write_mini_csv(folder: Path) -> None:
    """Ravi and Larochelle's lists with ``images``: PNG here, so that pixels can be compared."""
    (folder / "images").mkdir(parents=True)
    images = mini_images()
    for part, names in MINI_PARTS.items():
        rows = ["filename,label"]
        for name in names:
            for i, pixels in enumerate(images[name]):
                file = f"{name}{i:08d}.png"
                Image.fromarray(pixels).save(folder / "images" / file)
                rows.append(f"{file},{name}")
        (folder / f"{part}.csv").write_text("\n".join(rows) + "\n")


def write_mini_imagenet(folder: Path) -> None:
    """ImageNet's folders in ``train``, with lists of class_name,image_name and one unlisted image for each class."""
    images = mini_images()
    for part, names in MINI_PARTS.items():
        rows = ["class_name,image_name"]
        for name in names:
            (folder / "train" / name).mkdir(parents=True)
            for i, pixels in enumerate([*images[name], noise(0, 84, 84, 3)]):
                Image.fromarray(pixels).save(folder / "train" / name / f"{name}_{i}.JPEG", format="PNG")
                if i < 2:
                    rows.append(f"{name},{name}_{i}.JPEG")
        (folder / f"{part}.csv").write_text("\n".join(rows) + "\n")


def write_mini_cache(folder: Path) -> None:
    """mini-imagenet-cache-{train,val,test}.pkl."""
    folder.mkdir(parents=True)
    images = mini_images()
    for part, names in MINI_PARTS.items():
        data = np.stack([pixels for name in names for pixels in images[name]])
        rows = {name: [2 * c, 2 * c + 1] for c, name in enumerate(names)}
        content = pickle.dumps({"image_data": data, "class_dict": rows}, protocol=4)
        (folder / f"mini-imagenet-cache-{part}.pkl").write_bytes(content)


def write_mini_category(folder: Path) -> None:
    """miniImageNet_category_split_*.pickle, and those of further training images."""
    folder.mkdir(parents=True)
    images = mini_images()
    number = {name: c for c, name in enumerate(sorted(images))}
    for part, names in MINI_PARTS.items():
        data = np.stack([pixels for name in reversed(names) for pixels in images[name]])
        values = {
            "data": data,
            "labels": [number[name] for name in reversed(names) for _ in range(2)],
            "catname2label": {name: number[name] for name in names},
        }
        file = "train_phase_train" if part == "train" else part
        (folder / f"miniImageNet_category_split_{file}.pickle").write_bytes(python2_pickle(values))
    for phase in ("val", "test"):
        path = folder / f"miniImageNet_category_split_train_phase_{phase}.pickle"
        path.write_bytes((folder / "miniImageNet_category_split_train_phase_train.pickle").read_bytes())


def tiered_images() -> dict[str, Pixels]:
    return {part: noise(50 + n, 3 * n, 84, 84, 3) for part, n in TIERED_CLASSES.items()}


def write_tiered(folder: Path, form: str) -> None:
    """{train,val,test}_labels.pkl with ``png`` pickles as OpenCV wrote them, or ``npz`` arrays as it read them: BGR."""
    folder.mkdir(parents=True)
    for part, pixels in tiered_images().items():
        count = TIERED_CLASSES[part]
        labels = {
            "label_specific": np.tile(np.arange(count), 3),
            "label_general": np.zeros(3 * count, np.int64),
            "label_specific_str": [f"{part} kind, {'crane' if c < 2 else c}" for c in range(count)],
            "label_general_str": ["thing"],
        }
        (folder / f"{part}_labels.pkl").write_bytes(python2_pickle(labels))
        if form == "npz":
            np.savez_compressed(folder / f"{part}_images.npz", images=pixels[..., ::-1])
            continue
        encoded = []
        for image in pixels:
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, format="PNG")
            encoded.append(np.frombuffer(buffer.getvalue(), np.uint8)[:, None])
        (folder / f"{part}_images_png.pkl").write_bytes(python2_pickle(encoded))


def write_folder(folder: Path, classes: int = 10, images: int = 6, splits: bool = False) -> None:
    """Photos of various sizes in folders of their classes."""
    for c in range(classes):
        (folder / f"kind {c}").mkdir(parents=True)
        for i in range(images):
            picture(100 * c + i, 20 + i, 24).save(folder / f"kind {c}" / f"{i}.jpg")
        (folder / f"kind {c}" / "notes.txt").write_text("no image")
    (folder / ".hidden").mkdir()
    if splits:
        names = [f"kind {c}" for c in range(classes)]
        (folder / "splits.json").write_text(json.dumps({"train": names[4:], "val": names[:2], "test": names[2:4]}))


def write_all(folder: Path) -> None:
    write_cifar100(folder / "cifar-100-python")
    write_cub(folder / "CUB_200_2011")
    write_omniglot(folder / "omniglot")
    write_mini_csv(folder / "miniimagenet")
    write_tiered(folder / "tiered-imagenet", "npz")
    write_folder(folder / "photos")


def pack(folder: Path, archive: Path) -> None:
    """Pack a folder, with its name, into an archive of the format that the file name asks for."""
    form = {".tgz": "gztar", ".gz": "gztar", ".zip": "zip"}[archive.suffix]
    packed = shutil.make_archive(str(archive.with_suffix("")) + "-packed", form, folder.parent, folder.name)
    Path(packed).rename(archive)
