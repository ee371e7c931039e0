"""Chooses tiles: drops wrong glyphs and duplicate typefaces, then takes the most varied typefaces of each character."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from asset_writer import Pixels

Matrix = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

NEIGHBOURS = 15
# A typeface stays if this share of its glyphs has at least LEAST_VOTE neighbours of the glyph's class.
LEAST_AGREEMENT = 0.6
LEAST_VOTE = 3 / NEIGHBOURS
# A script with more typefaces than this uses the stricter limits.
MANY_FACES = 150
# A glyph stays if at least this share of its neighbours has its class (few typefaces, many typefaces).
LEAST_IMAGE_VOTES = (3 / NEIGHBOURS, 7 / NEIGHBOURS)
# Share of many typefaces that is kept: those nearest to others.
COMMON_SHARE = 0.85
# Typefaces nearer than this (mean feature distance over shared glyphs) are one design.
TWIN_DISTANCE = 0.16
# Tiles of a class whose difference is below this share of their ink are near-duplicates.
NEAR_DUPLICATE = 0.06
INK_LIMITS = (0.015, 0.62)


@dataclass(frozen=True)
class Pool:
    """All N tiles of one script.

    Attributes:
        tiles: N x SIDE x SIDE.
        labels: N indices of characters.
        faces: N indices of typefaces.
    """

    tiles: Pixels
    labels: Indices
    faces: Indices

    def subset(self, keep: npt.NDArray[np.bool_]) -> Pool:
        """Return the tiles that ``keep`` marks."""
        return Pool(self.tiles[keep], self.labels[keep], self.faces[keep])


def pooled(maps: Matrix, size: int) -> Matrix:
    """Average ``maps`` (N x H x W) over size x size blocks."""
    count, height, width = maps.shape
    blocks = maps.reshape(count, height // size, size, width // size, size)
    return np.asarray(blocks.mean(axis=(2, 4)), dtype=np.float32)


def unit(rows: Matrix) -> Matrix:
    """Scale rows to length one."""
    flat = rows.reshape(len(rows), -1)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6), dtype=np.float32)


def features(tiles: Pixels) -> Matrix:
    """Compute features of tiles: coarse ink and stroke directions, each scaled to length one."""
    ink = 1.0 - tiles.astype(np.float32) / 255.0
    down, across = (part.astype(np.float32) for part in np.gradient(ink, axis=(1, 2)))
    strength, angle = np.hypot(down, across), np.arctan2(down, across) % np.pi
    parts = [unit(pooled(ink, 2))]
    sectors = []
    for sector in range(4):
        offset = np.abs((angle - sector * np.pi / 4 + np.pi / 2) % np.pi - np.pi / 2)
        weight = np.maximum(0.0, 1.0 - offset / (np.pi / 4)).astype(np.float32)
        sectors.append(pooled(strength * weight, 4))
    parts.append(unit(np.concatenate(sectors, axis=1)))
    return np.concatenate(parts, axis=1) / np.float32(np.sqrt(2.0))


def votes(pool: Pool) -> npt.NDArray[np.float64]:
    """Compute for each tile the share of its nearest tiles of other typefaces that have its class."""
    rows = features(pool.tiles)
    result = np.zeros(len(rows))
    for start in range(0, len(rows), 1024):
        part = slice(start, start + 1024)
        near = rows[part] @ rows.T
        near[pool.faces[part, None] == pool.faces[None, :]] = -1.0
        nearest = np.argpartition(-near, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        result[part] = (pool.labels[nearest] == pool.labels[part, None]).mean(axis=1)
    return result


def drop_outliers(pool: Pool) -> Pool:
    """Drop tiles with too little or too much ink, then typefaces and tiles that other typefaces do not confirm."""
    ink = 1.0 - pool.tiles.mean(axis=(1, 2)) / 255.0
    pool = pool.subset((ink > INK_LIMITS[0]) & (ink < INK_LIMITS[1]))
    agreed = votes(pool) >= LEAST_VOTE
    count = np.bincount(pool.faces)
    agreement = np.bincount(pool.faces, weights=agreed) / np.maximum(count, 1)
    pool = pool.subset((agreement >= LEAST_AGREEMENT)[pool.faces])
    many = len(np.unique(pool.faces)) > MANY_FACES
    return pool.subset(votes(pool) >= LEAST_IMAGE_VOTES[many])


def face_distances(pool: Pool, faces: Indices, classes: int) -> Matrix:
    """Compute the mean feature distance of every two typefaces over their common glyphs."""
    rows = features(pool.tiles)
    position = {int(face): index for index, face in enumerate(faces)}
    total = np.zeros((len(faces), len(faces)), dtype=np.float32)
    shared = np.zeros_like(total)
    for label in range(classes):
        members = np.flatnonzero(pool.labels == label)
        places = np.array([position[int(face)] for face in pool.faces[members]], dtype=np.int64)
        gap = np.sqrt(np.maximum(0.0, 2.0 - 2.0 * (rows[members] @ rows[members].T)))
        total[np.ix_(places, places)] += gap
        shared[np.ix_(places, places)] += 1.0
    return np.where(shared > 0, total / np.maximum(shared, 1.0), np.float32(2.0))


def drop_twins(distance: Matrix, sizes: Indices) -> list[int]:
    """Keep one of each set of nearly equal typefaces: the one with most glyphs, or the first of these."""
    kept: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda item: (-int(sizes[item]), item)):
        if all(distance[index, other] >= TWIN_DISTANCE for other in kept):
            kept.append(index)
    return sorted(kept)


def drop_odd(distance: Matrix, wanted: int) -> list[int]:
    """Drop typefaces that are far from their fifth neighbour, if there are many."""
    count = len(distance)
    if count <= MANY_FACES:
        return list(range(count))
    oddness = np.sort(distance, axis=1)[:, 5]
    order = np.argsort(oddness, kind="stable")[: max(2 * wanted, int(COMMON_SHARE * count))]
    return sorted(int(index) for index in order)


def rank(distance: Matrix) -> list[int]:
    """Sort typefaces for variety: the most central first, then always the one farthest from all earlier ones."""
    order = [int(np.argmin(distance.sum(axis=1)))]
    nearest = distance[order[0]].copy()
    while len(order) < len(distance):
        nearest[order] = -1.0
        order.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, distance[order[-1]])
    return order


def choose(pool: Pool, classes: int, wanted: int) -> Indices:
    """Choose at most ``wanted`` tiles of each class, in the order of the typefaces, and return their indices.

    Near-duplicates within a class and tiles that equal a tile of another class are dropped.
    """
    faces, sizes = np.unique(pool.faces, return_counts=True)
    distance = face_distances(pool, faces, classes)
    twinless = drop_twins(distance, sizes)
    kept = [twinless[index] for index in drop_odd(distance[np.ix_(twinless, twinless)], wanted)]
    order = [int(faces[kept[index]]) for index in rank(distance[np.ix_(kept, kept)])]
    place = {face: index for index, face in enumerate(order)}
    ink = 1.0 - pool.tiles.reshape(len(pool.tiles), -1).astype(np.float32) / 255.0
    pictures = [tile.tobytes() for tile in pool.tiles]
    readings: dict[bytes, set[int]] = {}
    for picture, reading in zip(pictures, pool.labels.tolist(), strict=True):
        readings.setdefault(picture, set()).add(reading)
    chosen: list[int] = []
    for label in range(classes):
        members = [int(index) for index in np.flatnonzero(pool.labels == label) if int(pool.faces[index]) in place]
        members.sort(key=lambda index: place[int(pool.faces[index])])
        taken: list[int] = []
        for index in members:
            if len(taken) == wanted:
                break
            if len(readings[pictures[index]]) > 1:
                continue
            gaps = np.abs(ink[taken] - ink[index]).sum(axis=1) / (ink[taken].sum(axis=1) + ink[index].sum())
            if not (gaps < NEAR_DUPLICATE).any():
                taken.append(index)
        chosen += taken
    return np.array(chosen, dtype=np.int64)
