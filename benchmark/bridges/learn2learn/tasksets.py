"""Episodes of the suite's protocols as task sets of learn2learn, and data sets of learn2learn as ``ImageSet``."""

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
    data: Path | None = None,
    **settings: Any,
) -> Any:
    """Return the episodes of a protocol as a ``learn2learn.data.Taskset`` of (images, labels).

    Images are (N * (K + Q), C, H, W) float32 in [0, 1], class by class, with the K support images of a class first: the
    order by which learn2learn's algorithms distinguish them. Labels are 0 to N - 1.

    Args:
        protocol: Name of a protocol with episodes.
        dataset: Name of the data set.
        split: ``test`` and ``val`` are the episodes on which methods are evaluated with this seed, in the same order;
            ``train`` are as many episodes of the students' training images.
        seed: Seed of the run.
        data: Folder of data sets; None for the default.
        **settings: Settings of the protocol, such as ``episodes=600, queries=15``.

    Raises:
        InputError: The protocol has no episodes.
    """
    from benchmark.data.episodes import sample_episodes
    from benchmark.data.published import data_set, default_data_root, open_data_set
    from protocols import PROTOCOLS
    from protocols.episodic import Episodic

    resolved = PROTOCOLS.get(protocol)
    if not issubclass(resolved.entry, Episodic):
        raise InputError(f"{protocol} has no episodes; a fewshot or middleshot protocol has")
    values = {
        **resolved.entry.presets["quick"].get("protocol", {}),
        **settings,
        **({} if split == "train" else {"split": split}),
    }
    instance = resolved.entry(protocol, build_settings(resolved.entry.Settings, values, "protocol"), resolved.fields)
    images = open_data_set(data_set(dataset), data or default_data_root(), Silent())
    instance.check(images)
    if split != "train":
        return taskset(images, instance.episodes(images, seed))
    base = instance.tasks(images, seed)[0]
    return taskset(
        images,
        sample_episodes(
            images, base.classes, way=instance.fields["way"], shot=instance.fields["shot"],
            query=instance.settings.queries, episodes=instance.count,
            seed=derive_seed(seed, "training episodes"), among=base.train,
        ),
    )  # fmt: skip


def taskset(data: ImageSet, episodes: Episodes) -> Any:
    """Return episodes of a data set as a ``learn2learn.data.Taskset``; for images and labels see ``as_taskset``."""
    import numpy as np
    import torch

    l2l = load_learn2learn()
    base: Any = l2l.data.Taskset

    class Images(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
        def __len__(self) -> int:
            return len(data.images)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            pixels = torch.from_numpy(np.array(data.images[index]))
            return pixels.permute(2, 0, 1).float() / 255, int(data.labels[index])

    class ProtocolTasks(base):  # type: ignore[misc]
        """Makes the description of a task on request; all descriptions together would take hundreds of megabytes."""

        def __getitem__(self, number: int) -> Any:
            if not 0 <= number < len(self):
                raise IndexError(number)
            return self.get_task(self.description(number))

        def sample_task_description(self) -> Any:
            return self.description(int(np.random.default_rng().integers(len(self))))

        def description(self, number: int) -> list[Any]:
            images = np.concatenate([episodes.support[number], episodes.query[number]], axis=1)
            descriptions = [l2l.data.DataDescription(int(index)) for index in images.ravel()]
            load(descriptions)
            for position, description in enumerate(descriptions):
                description.transforms.append(lambda pair, way=position // images.shape[1]: (pair[0], way))
            return descriptions

    by_label = {int(c): data.indices_of([c]).tolist() for c in np.unique(data.labels)}
    labels = dict(enumerate(data.labels.tolist()))
    dataset = l2l.data.MetaDataset(Images(), labels_to_indices=by_label, indices_to_labels=labels)
    load = l2l.data.transforms.LoadData(dataset)
    return ProtocolTasks(dataset, task_transforms=[load], num_tasks=len(episodes.classes))


def image_set(name: str, parts: Mapping[str, Any], *, size: int) -> ImageSet:
    """Decode data sets of learn2learn, or any others of (PIL image, label), into one ``ImageSet``.

    It can be registered like any data set:
    ``DATASETS.register("flowers")(lambda root: image_set("flowers", {...}, size=84))``.

    Args:
        name: Name of the data set.
        parts: The data sets ``train``, ``val`` and ``test``, each with its own labels, such as
            ``{"train": VGGFlower102(root, "train"), "val": VGGFlower102(root, "validation"), ...}``.
        size: Side of the decoded RGB images in pixels.

    Raises:
        InputError: A part is missing or unknown.
    """
    import numpy as np

    from benchmark.data import ImageSet
    from benchmark.data.decoding import decode
    from benchmark.data.image_format import ImageFormat

    if set(parts) != {"train", "val", "test"}:
        raise InputError(f"data set {name} needs the parts train, val and test, got {', '.join(parts) or 'none'}")
    images: list[Any] = []
    labels: list[IntArray] = []
    classes: list[str] = []
    splits: dict[str, tuple[int, ...]] = {}
    for part, dataset in parts.items():
        part_labels = []
        for index in range(len(dataset)):
            image, label = dataset[index]
            images.append(decode(np.asarray(image.convert("RGB")), ImageFormat(size), name=f"{part} {index}"))
            part_labels.append(int(label))
        part_classes, positions = np.unique(part_labels, return_inverse=True)
        labels.append(positions + len(classes))
        splits[part] = tuple(range(len(classes), len(classes) + len(part_classes)))
        classes += [f"{part} {label}" for label in part_classes]
    return ImageSet(
        name=name, images=np.stack(images), labels=np.concatenate(labels).astype(np.int64),
        groups=np.arange(len(images)), classes=tuple(classes), splits=splits,
    )  # fmt: skip
