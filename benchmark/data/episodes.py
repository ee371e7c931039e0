"""Few-shot episodes: their classes, support images and query images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from benchmark.data.image_set import ImageSet, IntArray
from benchmark.errors import DoesNotApply, InputError


@dataclass(frozen=True, eq=False)
class Episodes:
    """E episodes of N classes with K support and Q query images each. All indices are those of the image set.

    Support and query images of one episode share no image and no group.

    Attributes:
        classes: E x N class indices.
        support: E x N x K image indices.
        query: E x N x Q image indices.
    """

    classes: IntArray
    support: IntArray
    query: IntArray

    @property
    def hash(self) -> str:
        """sha256 of the three arrays."""
        digest = hashlib.sha256()
        for part in (self.classes, self.support, self.query):
            digest.update(repr(part.shape).encode() + part.astype("<i8").tobytes())
        return digest.hexdigest()


def check_episodes(
    data: ImageSet, classes: tuple[int, ...], way: int, shot: int, query: int, among: IntArray | None = None
) -> None:
    """Check that such episodes can be drawn.

    The groups of a class are divided between support and query. This always succeeds if the class has at least K + Q
    images plus the size of its largest group minus one.

    Args:
        data: the image set.
        classes: class indices to draw from.
        way: classes of an episode (N).
        shot: support images of each class (K).
        query: query images of each class (Q).
        among: indices of the images to draw from; None is all images.

    Raises:
        InputError: the episodes cannot be drawn; the message says which numbers are too small.
    """
    if way < 2 or shot < 1:
        raise InputError(f"{way}-way {shot}-shot is not a task: at least 2 ways and 1 shot are needed")
    if way > len(classes):
        raise DoesNotApply(
            f"{way}-way episodes need {way} classes, the split has {len(classes)}: at most {len(classes)}-way"
        )
    for c in classes:
        images = _of_class(data, c, among)
        sizes = np.unique(data.groups[images], return_counts=True)[1]
        largest = int(sizes.max(initial=1))
        if not _any_support_fits(sizes, shot, query) and len(images) < shot + query + largest - 1:
            alike = f", up to {largest} of them near-duplicates of one another, which are never both support and query"
            alike = alike if largest > 1 else ""
            raise DoesNotApply(
                f"{shot}-shot episodes with {query} queries need more images: class {data.classes[c]!r} of {data.name} "
                f"has {len(images)}{alike}; lower the shots or set protocol.queries"
            )


def _any_support_fits(sizes: IntArray, shot: int, query: int) -> bool:
    """Whether any K support images leave Q query images of other groups, for groups of these sizes."""
    return int(np.sort(sizes)[::-1][shot:].sum()) >= query


def _of_class(data: ImageSet, c: int, among: IntArray | None) -> IntArray:
    images = data.indices_of([c])
    return images if among is None else images[np.isin(images, among)]


def sample_episodes(
    data: ImageSet,
    classes: tuple[int, ...],
    *,
    way: int,
    shot: int,
    query: int,
    episodes: int,
    seed: int,
    among: IntArray | None = None,
) -> Episodes:
    """Draw episodes: N classes without replacement, then K support and Q query images of each, uniformly.

    A query image never shares a group with the support images of its class. If a class has few groups, its support
    images come from few enough of them to leave Q query images. The result depends on the arguments alone.

    Args:
        data: the image set.
        classes: class indices to draw from.
        way: classes of an episode (N).
        shot: support images of each class (K).
        query: query images of each class (Q).
        episodes: number of episodes (E).
        seed: seed of the draws.
        among: indices of the images to draw from; None is all images.

    Raises:
        InputError: the episodes cannot be drawn.
    """
    check_episodes(data, classes, way, shot, query, among)
    rng = np.random.default_rng(seed)
    pool = np.asarray(classes, np.int64)
    order = rng.random((episodes, len(pool)), np.float32).argsort(axis=1, kind="stable")[:, :way]
    chosen = pool[order]
    support = np.empty((episodes, way, shot), np.int64)
    queries = np.empty((episodes, way, query), np.int64)
    for c in pool:
        at = np.nonzero(chosen == c)
        images = _of_class(data, int(c), among)
        groups = data.groups[images]
        shuffled = rng.random((len(at[0]), len(images)), np.float32).argsort(axis=1, kind="stable")
        if not _any_support_fits(np.unique(groups, return_counts=True)[1], shot, query):
            shuffled = _support_first(shuffled, groups, shot, query)
        first = shuffled[:, :shot]
        rest = shuffled[:, shot:]
        blocked = (groups[rest][:, :, None] == groups[first][:, None, :]).any(axis=2)
        allowed = np.argsort(blocked, axis=1, kind="stable")[:, :query]
        support[at] = images[first]
        queries[at] = images[np.take_along_axis(rest, allowed, axis=1)]
    return Episodes(chosen, support, queries)


def _support_first(shuffled: IntArray, groups: IntArray, shot: int, query: int) -> IntArray:
    """Move the support images to the front of each episode's random order.

    An image becomes support if its group already has a support image, or if Q images remain in groups without one.

    Args:
        shuffled: E x M, a random order of the class's M images for each episode.
        groups: M group ids.
        shot: support images (K).
        query: query images (Q).

    Returns:
        E x M orders.
    """
    members, sizes = np.unique(groups, return_inverse=True, return_counts=True)[1:]
    episodes = np.arange(len(shuffled))
    opened = np.zeros((len(shuffled), len(sizes)), bool)
    others = np.full(len(shuffled), len(groups))
    taken = np.zeros(shuffled.shape, bool)
    # twice: a skipped image may belong to a group that is opened after it
    for rank in [*range(shuffled.shape[1])] * 2:
        group = members[shuffled[:, rank]]
        known = opened[episodes, group]
        fits = (known | (others - sizes[group] >= query)) & ~taken[:, rank] & (taken.sum(1) < shot)
        others -= np.where(fits & ~known, sizes[group], 0)
        opened[episodes[fits], group[fits]] = True
        taken[fits, rank] = True
    return np.take_along_axis(shuffled, (~taken).argsort(axis=1, kind="stable"), axis=1)


def sample_disjoint_episodes(
    data: ImageSet, classes: tuple[int, ...], *, way: int, shot: int, query: int, seed: int
) -> Episodes:
    """Draw episodes that share no image with each other, until too few images are left.

    The spread of their accuracies includes the choice of images (Lafargue et al., TMLR 2024, arXiv 2409.02850). Classes
    are drawn uniformly from those with enough unused images.

    Args:
        data: the image set.
        classes: class indices to draw from.
        way: classes of an episode (N).
        shot: support images of each class (K).
        query: query images of each class (Q).
        seed: seed of the draws.

    Raises:
        InputError: not one episode can be drawn.
    """
    check_episodes(data, classes, way, shot, query)
    rng = np.random.default_rng(seed)
    unused = {c: rng.permutation(data.indices_of([c])) for c in classes}
    fitting = {c: _fitting_queries(data, images, shot, query) for c, images in unused.items()}
    drawn: list[tuple[list[int], list[IntArray], list[IntArray]]] = []
    while True:
        rich = [c for c, positions in fitting.items() if len(positions) == query and len(unused[c]) >= shot]
        if len(rich) < way:
            break
        chosen = [int(c) for c in rng.choice(rich, way, replace=False)]
        drawn.append((chosen, [unused[c][:shot] for c in chosen], [unused[c][fitting[c]] for c in chosen]))
        for c in chosen:  # all other classes stay as they are
            unused[c] = np.delete(unused[c], [*range(shot), *fitting[c]])
            fitting[c] = _fitting_queries(data, unused[c], shot, query)
    return Episodes(*(np.asarray(part, np.int64) for part in zip(*drawn, strict=True)))


def _fitting_queries(data: ImageSet, images: IntArray, shot: int, query: int) -> IntArray:
    """Return the positions of the first Q images, or of all if they are fewer, that share no group with the first K."""
    groups = data.groups[images]
    return np.flatnonzero(~np.isin(groups, groups[:shot]))[:query]
