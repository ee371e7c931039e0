"""The teacher's embeddings that a method prepares from: of the images, or of a random crop of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.data.augmentation import ImageLoader
from benchmark.hashing import derive_seed
from benchmark.losses import class_centers
from benchmark.methods import METHODS
from benchmark.training.embedding_cache import EmbeddingCache
from benchmark.training.factory import Factory
from benchmark.training.trained_network import TrainedNetwork

from ..smoke import make_trainer, run_plan, smoke_plan


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> tuple[Factory, TrainedNetwork]:
    root = tmp_path_factory.mktemp("factory")
    made = smoke_plan(root, "distill-same", "refilled", limit_steps=4)
    trainer = make_trainer(root, made)
    teacher = trainer.get_teacher(made.protocol.tasks(made.data, 0)[0])
    return trainer._factory, teacher


def test_train_embeddings_are_of_one_random_crop_of_each_image(setting: tuple[Factory, TrainedNetwork]) -> None:
    factory, teacher = setting
    task = teacher.task
    found = factory.train_embeddings(teacher, task, augmented=True)
    training = factory.spec.training
    images = ImageLoader(
        task.data, task.train, teacher.normalisation, padding=training.crop_padding, device=torch.device("cpu")
    )
    generator = torch.Generator().manual_seed(derive_seed(factory.spec.seed, "embedded crops"))
    expected = []
    for start in range(0, len(task.train), 64):
        positions = torch.arange(start, min(start + 64, len(task.train)))
        with torch.no_grad():
            expected.append(teacher.network.embed(images.augmented(positions, generator)))
    assert torch.allclose(found, torch.cat(expected), atol=1e-6)
    assert not teacher.network.training, "in evaluation mode, so that batch norm stays as it is"
    again = factory.train_embeddings(teacher, task, augmented=True)
    assert torch.equal(found, again)
    plain = factory.train_embeddings(teacher, task, augmented=False)
    assert torch.equal(plain, factory.embed(teacher, task.data, task.train))
    assert not torch.allclose(found, plain, atol=1e-3)


@pytest.mark.parametrize("images", ["augmented", "plain"])
def test_refilled_takes_its_centres_from_the_images_that_the_setting_names(
    tmp_path: Path, images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = METHODS.get("refilled").entry
    seen = []
    prepare = entry.prepare

    def noted(self: object, student: object, labels: torch.Tensor, embeddings: torch.Tensor) -> None:
        prepare(self, student, labels, embeddings)
        seen.append((self.centers, labels, embeddings))  # type: ignore[attr-defined]

    monkeypatch.setattr(entry, "prepare", noted)
    made = smoke_plan(tmp_path, "distill-same", "refilled", f"method.center_images={images}", limit_steps=4)
    result = run_plan(tmp_path, made)
    ((centers, labels, embeddings),) = seen
    factory = make_trainer(tmp_path, made)._factory
    expected = factory.train_embeddings(result.teacher, result.student.task, augmented=images == "augmented")
    assert torch.equal(embeddings, expected)
    assert torch.equal(centers, class_centers(expected, labels, len(result.student.task.classes)))
    assert np.isfinite(result.score.value)


def test_small_students_have_centres_of_all_crops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = METHODS.get("refilled").entry
    counts = []
    monkeypatch.setattr(entry, "prepare", lambda self, student, labels, embeddings: counts.append(len(embeddings)))
    monkeypatch.setattr(entry, "loss", lambda self, batch, student, teacher: {"ce": student.logits.mean()})
    for images in ("augmented", "plain"):
        made = smoke_plan(tmp_path, "middleshot-5way1shot", "refilled", f"method.center_images={images}", limit_steps=2)
        run_plan(tmp_path, made)
    assert counts == [10] * 6 + [5] * 6, "two crops of each of five images, then the images alone"


def test_views_are_kept_where_a_training_shows_more_images_than_there_are(tmp_path: Path) -> None:
    """30 images without padding are 30 views; 4 pixels of padding make 81 of each."""
    root = tmp_path
    made = smoke_plan(root, "distill-same", "rkd", "training.crop_padding=0", "training.steps=3", "teacher.steps=3")
    trainer = make_trainer(root, made)
    task = made.protocol.tasks(made.data, 0)[1]
    teacher = trainer.get_teacher(made.protocol.tasks(made.data, 0)[0])
    factory = trainer._factory
    assert len(task.train) == 30
    assert factory.view_cache(teacher, task, 30) is not None
    assert factory.view_cache(teacher, task, 29) is None
    padded = make_trainer(root, smoke_plan(root, "distill-same", "rkd", limit_steps=3))._factory
    assert padded.view_cache(teacher, task, 30 * 81 - 1) is None
    assert padded.view_cache(teacher, task, 30 * 81) is not None


def test_kept_views_are_what_the_teacher_says_of_the_crops(tmp_path: Path) -> None:
    made = smoke_plan(tmp_path, "distill-same", "rkd", limit_steps=3)
    trainer = make_trainer(tmp_path, made)
    teacher, task = trainer.get_teacher(made.protocol.tasks(made.data, 0)[0]), made.protocol.tasks(made.data, 0)[1]
    factory = trainer._factory
    own = factory.normalisation(task.data, task.train)
    assert own != teacher.normalisation
    images = ImageLoader(task.data, task.train, own, padding=4, device=torch.device("cpu"))
    crops = images.sample_crops(30, torch.Generator().manual_seed(0))
    pixels = images.crop(torch.arange(30), crops)
    cache = factory.view_cache(teacher, task, 1e9)
    assert cache is not None
    plain, kept = (
        factory.frozen_teacher(teacher, task.data, own, c)(task.train, crops, pixels, stages=False)
        for c in (None, cache)
    )
    assert cache.misses == 30
    assert torch.allclose(kept.embedding, plain.embedding, atol=1e-5)
    assert torch.allclose(kept.logits, plain.logits, atol=1e-5)


@pytest.mark.parametrize("method", ["rkd", "refilled"])
def test_students_learn_the_same_from_kept_views(tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run computes each view once, the second one none; both are equal bit for bit."""
    settings = ("training.crop_padding=0", "training.steps=12", "teacher.steps=4")
    made = smoke_plan(tmp_path, "distill-same", method, *settings)
    misses: list[int] = []
    save = EmbeddingCache.save

    def counted(self: EmbeddingCache) -> None:
        misses.append(self.misses)
        save(self)

    monkeypatch.setattr(EmbeddingCache, "save", counted)
    first, second = (run_plan(tmp_path, made).student.network.state_dict() for _ in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert 0 < misses[0] <= 30
    assert misses[1:] == [0]


def test_methods_that_read_stages_keep_no_views(tmp_path: Path) -> None:
    made = smoke_plan(tmp_path, "distill-same", "at", "training.crop_padding=0", "training.steps=12", "teacher.steps=4")
    run_plan(tmp_path, made)
    assert not list((tmp_path / "teachers").glob("views/*"))
