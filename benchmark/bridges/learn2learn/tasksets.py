"""Episodes of our protocols as task sets of learn2learn, and data sets of learn2learn as ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmark.bridges.learn2learn.methods import load_learn2learn
from benchmark.errors import InputError
from benchmark.hashing import derive_seed
from benchmark.settings import build_settings
from benchmark.system.progress import Silent

if TYPE_CHECKING:
    from benchmark.data import ImageSet
    from benchmark.data.episodes import Episodes
    from benchmark.data.image_set import IntArray


def as_taskset(
    protocol: str,
    dataset: str = "glyphs",
    *,
    split: Literal["train", "val", "test"] = "test",
    seed: int = 0,
    root: Path | None = None,
    **settings: Any,
) -> Any:
    """The episodes of a protocol as a ``learn2learn.data.Taskset`` of (images, labels).

    ``test`` and ``val`` are the very episodes that methods are judged on with that seed, in their order; ``train`` are
    as many of the images that students are trained on. Images are N * (K + Q) x C x H x W float32 on the scale 0..1,
    class by class, of each the K support images first, as learn2learn's own algorithms tell them apart; labels are
    0..N-1. ``settings`` are the protocol's, such as ``episodes=600, queries=15``; ``root``: the data root. A protocol
    without episodes raises ``InputError``.
    """
    from benchmark.data.episodes import sample_episodes
    from benchmark.data.published import data_set, default_data_root, open_data_set
    from protocols import PROTOCOLS
    from protocols.episodic import Episodic

    match = PROTOCOLS.get(protocol)
    if not issubclass(match.entry, Episodic):
        raise InputError(f"{protocol} has no episodes; a fewshot or middleshot protocol has")
    given = {
        **match.entry.presets["quick"].get("protocol", {}),
        **settings,
        **({} if split == "train" else {"split": split}),
    }
    made = match.entry(protocol, build_settings(match.entry.Settings, given, "protocol"), match.fields)
    data = open_data_set(data_set(dataset), root or default_data_root(), Silent())
    made.check(data)
    if split != "train":
        return taskset(data, made.episodes(data, seed))
    base = made.tasks(data, seed)[0]
    return taskset(
        data,
        sample_episodes(
            data, base.classes, way=made.fields["way"], shot=made.fields["shot"], query=made.settings.queries,
            episodes=made.count, seed=derive_seed(seed, "training episodes"), among=base.train,
        ),
    )  # fmt: skip


def taskset(data: ImageSet, episodes: Episodes) -> Any:
    """Such episodes of such images as a ``learn2learn.data.Taskset``; images and labels as ``as_taskset`` has them."""
    import numpy as np
    import torch

    l2l = load_learn2learn()
    base: Any = l2l.data.Taskset

    class Pictures(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
        def __len__(self) -> int:
            return len(data.images)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            pixels = torch.from_numpy(np.array(data.images[index]))
            return pixels.permute(2, 0, 1).float() / 255, int(data.labels[index])

    class ProtocolTasks(base):  # type: ignore[misc]
        """Makes what describes a task when it is asked for: of all at once it would take hundreds of megabytes."""

        def __getitem__(self, number: int) -> Any:
            if not 0 <= number < len(self):
                raise IndexError(number)
            return self.get_task(self.description(number))

        def sample_task_description(self) -> Any:
            return self.description(int(np.random.default_rng().integers(len(self))))

        def description(self, number: int) -> list[Any]:
            images = np.concatenate([episodes.support[number], episodes.query[number]], axis=1)
            described = [l2l.data.DataDescription(int(index)) for index in images.ravel()]
            load(described)
            for place, one in enumerate(described):
                one.transforms.append(lambda pair, way=place // images.shape[1]: (pair[0], way))
            return described

    by_label = {int(c): data.indices_of([c]).tolist() for c in np.unique(data.labels)}
    labels = dict(enumerate(data.labels.tolist()))
    pictures = l2l.data.MetaDataset(Pictures(), labels_to_indices=by_label, indices_to_labels=labels)
    load = l2l.data.transforms.LoadData(pictures)
    return ProtocolTasks(pictures, task_transforms=[load], num_tasks=len(episodes.classes))


def image_set(name: str, parts: Mapping[str, Any], *, size: int) -> ImageSet:
    """Data sets of learn2learn, or any others of (PIL image, label), as one ``ImageSet``, decoded now.

    ``parts``: ``train``, ``val`` and ``test``, each with labels of its own, as
    ``{"train": VGGFlower102(root, "train"), "val": VGGFlower102(root, "validation"), ...}``. Images become ``size`` x
    ``size`` RGB. Registered, it is a data set like any other:
    ``DATASETS.register("flowers")(lambda root: image_set("flowers", {...}, size=84))``.
    """
    import numpy as np

    from benchmark.data import ImageSet
    from benchmark.data.importing import ImageFormat, decode

    if set(parts) != {"train", "val", "test"}:
        raise InputError(f"data set {name} needs the parts train, val and test, got {', '.join(parts) or 'none'}")
    images: list[Any] = []
    labels: list[IntArray] = []
    classes: list[str] = []
    splits: dict[str, tuple[int, ...]] = {}
    for part, dataset in parts.items():
        own = []
        for index in range(len(dataset)):
            picture, label = dataset[index]
            images.append(decode(np.asarray(picture.convert("RGB")), ImageFormat(size), name=f"{part} {index}"))
            own.append(int(label))
        known, positions = np.unique(own, return_inverse=True)
        labels.append(positions + len(classes))
        splits[part] = tuple(range(len(classes), len(classes) + len(known)))
        classes += [f"{part} {label}" for label in known]
    return ImageSet(
        name=name, images=np.stack(images), labels=np.concatenate(labels).astype(np.int64),
        groups=np.arange(len(images)), classes=tuple(classes), splits=splits,
    )  # fmt: skip
