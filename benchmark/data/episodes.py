"""Few-shot episodes: which classes, which support and which query images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from benchmark.data.image_set import ImageSet, IntArray
from benchmark.errors import DoesNotApply, InputError


@dataclass(frozen=True, eq=False)
class Episodes:
    """E episodes over images numbered as in the image set.

    classes: E x N class indices; support: E x N x K image indices; query: E x N x Q image indices. Support and
    query of one episode share no image and no group.
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
    """Raise ``InputError`` with the numbers where ``classes`` cannot give such episodes.

    The groups of a class are shared out between support and query; where K + Q images and all but one of its largest
    group are there, a way to do so is always found.
    """
    if way < 2 or shot < 1:
        raise InputError(f"{way}-way {shot}-shot is no task: it takes 2 ways and 1 shot at the least")
    if way > len(classes):
        raise DoesNotApply(
            f"{way}-way episodes need {way} classes, the split has {len(classes)}: at most {len(classes)}-way"
        )
    for c in classes:
        images = _of_class(data, c, among)
        sizes = np.unique(data.groups[images], return_counts=True)[1]
        largest = int(sizes.max(initial=1))
        if not _any_support_fits(sizes, shot, query) and len(images) < shot + query + largest - 1:
            raise DoesNotApply(
                f"{shot}-shot episodes with {query} queries need more images: class {data.classes[c]!r} of {data.name} "
                f"has {len(images)}, up to {largest} of them near-duplicates of one another, which never stand on both "
                f"sides; lower the shots or set protocol.queries"
            )


def _any_support_fits(sizes: IntArray, shot: int, query: int) -> bool:
    """Whether K images from any groups of such sizes leave Q images of other groups."""
    return int(np.sort(sizes)[::-1][shot:].sum()) >= query


def _of_class(data: ImageSet, c: int, among: IntArray | None) -> IntArray:
    images = data.where([c])
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
    """Draw episodes: N classes without replacement, then K support images and Q queries of each, uniformly.

    A query is never of a group that the support images of its class belong to; where a class has few groups, support
    images are drawn from no more of them than leave enough queries. The stream depends on the arguments alone.
    ``among``: the images to draw from, where these are not all. Impossible numbers raise ``InputError``.
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
    """Random orders of a class's images (E x M), in each the support images moved to the front.

    An image is support, in turn, where its group has given one already, or leaves Q images of other groups without it.
    """
    members, sizes = np.unique(groups, return_inverse=True, return_counts=True)[1:]
    episodes = np.arange(len(shuffled))
    opened = np.zeros((len(shuffled), len(sizes)), bool)
    others = np.full(len(shuffled), len(groups))
    taken = np.zeros(shuffled.shape, bool)
    # twice: an image passed over may be of a group that was opened after it
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
    """Draw episodes that share no image with each other, until the images are used up.

    Their accuracies differ as those of other images of the same classes would. Lafargue et al., TMLR 2024,
    arXiv 2409.02850. Classes are drawn uniformly from those that still have images enough; otherwise as
    ``sample_episodes``, which impossible numbers are told by.
    """
    check_episodes(data, classes, way, shot, query)
    rng = np.random.default_rng(seed)
    left = {c: rng.permutation(data.where([c])) for c in classes}
    drawn: list[tuple[list[int], list[IntArray], list[IntArray]]] = []
    while True:
        able = {}
        for c, images in left.items():
            fitting = np.flatnonzero(~np.isin(data.groups[images], data.groups[images[:shot]]))[:query]
            if len(images) >= shot and len(fitting) == query:
                able[c] = fitting
        if len(able) < way:
            break
        chosen = [int(c) for c in rng.choice(list(able), way, replace=False)]
        drawn.append((chosen, [left[c][:shot] for c in chosen], [left[c][able[c]] for c in chosen]))
        for c in chosen:
            left[c] = np.delete(left[c], [*range(shot), *able[c]])
    return Episodes(*(np.asarray(part, np.int64) for part in zip(*drawn, strict=True)))
