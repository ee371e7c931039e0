from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.bridges.learn2learn.methods import load_learn2learn
from benchmark.bridges.learn2learn.tasksets import as_taskset, image_set, taskset
from benchmark.data import ImageSet
from benchmark.data.class_splits import load_class_split
from benchmark.data.dataset_store import import_dataset
from benchmark.data.episodes import sample_episodes
from benchmark.data.published import PublishedDataset, data_set
from benchmark.data.unpickling import load_pickle
from benchmark.errors import InputError
from benchmark.experiment.planning import make_plan
from benchmark.experiment.request import Request
from benchmark.system.progress import Silent
from tests.data import layouts


def test_taskset_holds_the_protocols_episodes(tmp_path: Path) -> None:
    tasks = as_taskset("fewshot-5way2shot", "tiny", seed=3, data=tmp_path, episodes=20, queries=4)
    assert isinstance(tasks, load_learn2learn().data.Taskset)
    overrides = ("protocol.episodes=20", "protocol.queries=4")
    plan = make_plan(Request("fewshot-5way2shot", "ce", "tiny", overrides=overrides), tmp_path)
    drawn = plan.protocol.episodes(plan.data, 3)  # type: ignore[attr-defined]
    assert len(tasks) == 20
    for number in (0, 7, 19, 7):
        images, labels = tasks[number]
        assert labels.tolist() == [way for way in range(5) for _ in range(6)]
        rows = np.concatenate([drawn.support[number], drawn.query[number]], axis=1).ravel()
        assert images.dtype == torch.float32
        assert np.array_equal((images * 255).round().byte().permute(0, 2, 3, 1).numpy(), plan.data.images[rows])
    assert sum(1 for _ in tasks) == 20
    assert tasks.sample()[0].shape == (30, 3, 16, 16)
    with pytest.raises(IndexError):
        tasks[20]


def test_taskset_images_are_in_learn2learns_order(tmp_path: Path, tiny: ImageSet) -> None:
    """By ``partition_task``, which its examples use: K of each class are support, the others queries."""
    drawn = sample_episodes(tiny, tiny.splits["test"], way=5, shot=2, query=3, episodes=4, seed=0)
    images, labels = taskset(tiny, drawn)[1]
    (support, own), (queries, asked) = load_learn2learn().data.partition_task(images, labels, shots=2)
    for part, rows, names, count in ((support, drawn.support, own, 2), (queries, drawn.query, asked, 3)):
        expected = tiny.images[rows[1].ravel()].transpose(0, 3, 1, 2) / np.float32(255)
        assert np.array_equal(part.numpy(), expected)
        assert names.tolist() == torch.arange(5).repeat_interleave(count).tolist()


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_taskset_classes_are_those_of_the_split(tmp_path: Path, split: Any) -> None:
    tasks = as_taskset("fewshot-5way1shot", "tiny", split=split, data=tmp_path, episodes=60, queries=3)
    data = data_set("tiny")(tmp_path)
    seen = {index for number in range(60) for index in (d.index for d in tasks.description(number))}
    assert set(data.labels[list(seen)]) == set(data.splits[split])
    plan = make_plan(Request("fewshot-5way1shot", "ce", "tiny"), tmp_path)
    held_out = set(plan.protocol.tasks(plan.data)[0].held_out)
    assert not seen & held_out
    assert bool(held_out)


def test_taskset_statistics_agree_with_learn2learns_sampler(tiny: ImageSet) -> None:
    """Classes and images as often, and raw pixels as good, in our episodes as in those that it draws."""
    l2l = load_learn2learn()
    classes, count = tiny.splits["test"], 1500
    ours = sample_episodes(tiny, classes, way=5, shot=1, query=3, episodes=count, seed=0)
    novel = tiny.indices_of(classes)
    labels = tiny.labels[novel]
    meta = l2l.data.MetaDataset(torch.utils.data.TensorDataset(torch.zeros(len(novel)), torch.from_numpy(labels)))
    pick = l2l.data.transforms.FusedNWaysKShots(meta, n=5, k=4)
    drawn = [[d.index for d in pick(None)] for _ in range(count)]
    theirs = np.array([novel[np.reshape(sorted(task, key=lambda i: labels[i]), (5, 4))] for task in drawn])
    pixels = tiny.images.reshape(len(tiny.images), -1).astype(np.float32)

    def right(support: Any, query: Any) -> float:
        centroids, asked = pixels[support[:, :, 0]], pixels[query]
        away = ((asked[:, :, :, None] - centroids[:, None, None]) ** 2).sum(-1)
        return float((away.argmin(-1) == np.arange(5)[None, :, None]).mean())

    shares = [np.bincount(tiny.labels[images].ravel(), minlength=30)[list(classes)] / count for images in
              (ours.support, theirs[:, :, :1])]  # fmt: skip
    assert np.allclose(*shares, atol=0.05)
    assert np.allclose(shares[0], 5 / 6, atol=0.03)
    apart = (tiny.groups[theirs[:, :, 1:]] != tiny.groups[theirs[:, :, :1]]).all((1, 2))
    accuracy = right(ours.support, ours.query), right(theirs[apart][:, :, :1], theirs[apart][:, :, 1:])
    assert accuracy[0] == pytest.approx(accuracy[1], abs=0.02)
    assert not apart.all()  # learn2learn takes near-duplicates of a support image for queries, ours never do


def test_taskset_refuses_protocols_without_episodes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="distill-same has no episodes"):
        as_taskset("distill-same", "tiny", data=tmp_path)
    with pytest.raises(InputError, match=r"no setting protocol\.episode"):
        as_taskset("fewshot-5way1shot", "tiny", data=tmp_path, episode=3)


class Pictures:
    """A data set of (PIL image, label), as all of learn2learn's are."""

    def __init__(self, labels: list[int], start: int) -> None:
        self.labels, self.start = labels, start

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return layouts.picture(self.start + index, 20, 20), self.labels[index]


def test_image_set_converts_learn2learns_data_sets() -> None:
    parts = {"train": Pictures([7, 3, 7, 3], 0), "val": Pictures([0, 0, 1], 10), "test": Pictures([5, 4], 20)}
    data = image_set("small", parts, size=20)
    assert data.labels.tolist() == [1, 0, 1, 0, 2, 2, 3, 5, 4]
    assert data.splits == {"train": (0, 1), "val": (2, 3), "test": (4, 5)}
    assert data.classes == ("train 3", "train 7", "val 0", "val 1", "test 4", "test 5")
    assert np.array_equal(data.images[5], np.asarray(layouts.picture(11, 20, 20)))
    with pytest.raises(InputError, match="needs the parts train, val and test, got train"):
        image_set("small", {"train": parts["train"]}, size=20)


@pytest.mark.parametrize("name", ["cifar-fs", "fc100", "miniimagenet", "tieredimagenet"])
def test_files_of_learn2learn_are_imported_unchanged(tmp_path: Path, name: str) -> None:
    """The same files, read by its own classes and by ours: the same images of the same classes."""
    datasets = load_learn2learn().vision.datasets
    if name == "fc100":
        layouts.write_cifar_parts(tmp_path, "FC100", load_class_split("fc100").classes, pickle.dumps)
        entry, place = datasets.FC100, tmp_path
    elif name == "cifar-fs":
        layouts.write_cifar_files(tmp_path / "cifarfs")
        entry, place = datasets.CIFARFS, tmp_path
    elif name == "miniimagenet":
        layouts.write_mini_cache(tmp_path / "mini")
        place = tmp_path / "mini"
        (place / "mini-imagenet-cache-val.pkl").rename(place / "mini-imagenet-cache-validation.pkl")
        entry = datasets.MiniImagenet
    else:
        layouts.write_tiered(tmp_path / "tiered-imagenet", "png")
        for path in (tmp_path / "tiered-imagenet").iterdir():  # learn2learn does not read what Python 2 pickled
            values = load_pickle(path)
            again = (
                [np.array(v) for v in values]
                if isinstance(values, list)
                else {key: np.array(v) if isinstance(v, np.ndarray) else v for key, v in values.items()}
            )
            path.write_bytes(pickle.dumps(again))
        entry, place = datasets.TieredImagenet, tmp_path
    published = data_set(name)
    assert isinstance(published, PublishedDataset)
    with layouts.small():
        import_dataset(published, tmp_path / "root", tmp_path, {}, workers=1, progress=Silent())
        data = published(tmp_path / "root")
    for mode, part in (("train", "train"), ("validation", "val"), ("test", "test")):
        theirs = entry(str(place), mode=mode)
        by_label: dict[int, list[bytes]] = {}
        for index in range(len(theirs)):
            picture, label = theirs[index]
            pixels = picture.permute(1, 2, 0) if isinstance(picture, torch.Tensor) else picture
            by_label.setdefault(int(label), []).append(np.asarray(pixels).astype(np.uint8).tobytes())
        ours = [[image.tobytes() for image in data.images[data.indices_of([c])]] for c in data.splits[part]]
        assert sorted(map(sorted, by_label.values())) == sorted(map(sorted, ours))
