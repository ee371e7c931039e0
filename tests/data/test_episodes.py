from __future__ import annotations

import numpy as np
import pytest

from benchmark.data import ImageSet
from benchmark.data.episodes import sample_disjoint_episodes, sample_episodes
from benchmark.errors import InputError


def test_episodes_have_distinct_classes_images_and_groups(tiny: ImageSet) -> None:
    episodes = sample_episodes(tiny, tiny.splits["test"], way=4, shot=3, query=7, episodes=300, seed=5)
    assert episodes.classes.shape == (300, 4)
    assert episodes.support.shape == (300, 4, 3)
    assert episodes.query.shape == (300, 4, 7)
    for classes, support, query in zip(episodes.classes, episodes.support, episodes.query, strict=True):
        assert len(set(classes)) == 4
        assert set(classes) <= set(tiny.splits["test"])
        assert (tiny.labels[support] == classes[:, None]).all()
        assert (tiny.labels[query] == classes[:, None]).all()
        assert len(set(support.flat) | set(query.flat)) == 4 * 10
        assert not set(tiny.groups[support].flat) & set(tiny.groups[query].flat)


def test_episodes_draw_images_uniformly(tiny: ImageSet) -> None:
    episodes = sample_episodes(tiny, tiny.splits["test"], way=2, shot=1, query=4, episodes=6000, seed=0)
    for drawn, expected in ((episodes.support, 2 * 6000), (episodes.query, 8 * 6000)):
        counts = np.bincount(drawn.ravel(), minlength=len(tiny.labels))[tiny.indices_of(tiny.splits["test"])]
        mean = expected / len(counts)
        assert np.abs(counts - mean).max() < 5 * np.sqrt(mean)


def test_episodes_depend_on_the_seed(tiny: ImageSet) -> None:
    def draw(seed: int) -> str:
        return sample_episodes(tiny, tiny.splits["test"], way=3, shot=1, query=5, episodes=50, seed=seed).hash

    assert draw(1) == draw(1)
    assert len({draw(seed) for seed in range(5)}) == 5


@pytest.mark.parametrize(
    ("way", "shot", "message"),
    [
        (7, 1, "the split has 6"),
        (1, 1, "2 ways"),
        (5, 0, "1 shot"),
        (5, 15, r"class 'pattern 24' of tiny has 24, up to 2 of them near-duplicates"),
        (5, 10**6, "lower the shots"),
    ],
)
def test_impossible_episodes_are_refused(tiny: ImageSet, way: int, shot: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sample_episodes(tiny, tiny.splits["test"], way=way, shot=shot, query=9, episodes=10, seed=0)


def test_support_uses_few_groups_if_groups_are_scarce(tiny: ImageSet) -> None:
    """24 images in 12 groups of a class: 12 support images of as many groups would leave no query."""
    drawn = sample_episodes(tiny, tiny.splits["test"], way=3, shot=12, query=9, episodes=400, seed=2)
    for support, query in zip(drawn.support.reshape(-1, 12), drawn.query.reshape(-1, 9), strict=True):
        assert len(set(support)) == 12
        assert len(set(query)) == 9
        assert not set(tiny.groups[support]) & set(tiny.groups[query])
        assert len(set(tiny.groups[support])) <= 7
    counts = np.bincount(drawn.support.ravel(), minlength=len(tiny.labels))[tiny.indices_of(tiny.splits["test"])]
    assert np.abs(counts - counts.mean()).max() < 5 * np.sqrt(counts.mean())


def test_episodes_reach_the_largest_possible_shot() -> None:
    """Groups of 120, 5, 5, ... as in a real class: the large one is support or query, never both."""
    labels = np.repeat([0, 1], 155)
    groups = np.concatenate(
        [np.concatenate([np.zeros(120, int), np.repeat(np.arange(1, 8), 5)]) + 8 * c for c in (0, 1)]
    )
    data = ImageSet("lumpy", np.zeros((310, 2, 2, 1), np.uint8), labels, groups, ("a", "b"), {"test": (0, 1)})
    drawn = sample_episodes(data, (0, 1), way=2, shot=21, query=15, episodes=200, seed=0)
    for support, query in zip(drawn.support.reshape(-1, 21), drawn.query.reshape(-1, 15), strict=True):
        assert len(set(support)) == 21
        assert len(set(query)) == 15
        assert not set(groups[support]) & set(groups[query])
    with pytest.raises(InputError, match="up to 120 of them near-duplicates"):
        sample_episodes(data, (0, 1), way=2, shot=22, query=15, episodes=1, seed=0)


def test_disjoint_episodes_use_every_image_at_most_once(tiny: ImageSet) -> None:
    """6 classes of 24 images, 8 an episode: 18 rounds of a class, so at least 3 episodes of 5 classes."""
    drawn = sample_disjoint_episodes(tiny, tiny.splits["test"], way=5, shot=1, query=7, seed=3)
    used = np.concatenate([drawn.support.ravel(), drawn.query.ravel()])
    assert len(set(used)) == len(used)
    assert len(drawn.classes) == 3
    for classes, support, query in zip(drawn.classes, drawn.support, drawn.query, strict=True):
        assert len(set(classes)) == 5
        assert (tiny.labels[support] == classes[:, None]).all()
        assert (tiny.labels[query] == classes[:, None]).all()
        assert not set(tiny.groups[support].flat) & set(tiny.groups[query].flat)
    left = [24 - np.isin(used, tiny.indices_of([c])).sum() for c in tiny.splits["test"]]
    assert sum(count >= 8 for count in left) < 5
    hashes = {
        sample_disjoint_episodes(tiny, tiny.splits["test"], way=2, shot=1, query=3, seed=s).hash for s in (0, 0, 1)
    }
    assert len(hashes) == 2
